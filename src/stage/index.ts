export {
  delivered,
  type Marks,
  type Outcome,
  REPLACED,
  type Recovered,
  type Rejection,
  rejected,
  retry,
  type Sink,
  type SinkContext,
  type Source,
  type SourceContext,
  type SourceFile,
  type SourcePositions,
  type SourceStatus,
  type StageChannelSection,
  type StageChannelSize,
  type StageChannels,
  type StageContext,
  type TaskReadinessBehaviour,
  type Transform,
  type TransformResult,
  type WriteProgress,
} from "./contract.ts";
export {
  defineSink,
  defineSource,
  defineTransform,
  guaranteeOf,
  type SinkDefinition,
  type SinkGuarantee,
  type SourceDefinition,
  type StageDefinition,
  type StoredFiles,
  type TransformDefinition,
} from "./define.ts";
export { readOptionFile } from "./option-file.ts";
export { encoding, retryOptions, secret, timeoutMs } from "./options.ts";
export { checkTls, type TlsConnection, type TlsOptions, tlsConnection, tlsFields, tlsRemedy } from "./tls.ts";
export { Upstream } from "./upstream.ts";
