export {
  delivered,
  type Marks,
  type Outcome,
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
  type Transform,
  type TransformResult,
} from "./contract.ts";
export {
  defineSink,
  defineSource,
  defineTransform,
  type SinkDefinition,
  type SourceDefinition,
  type StageDefinition,
  type StoredFiles,
  type TransformDefinition,
} from "./define.ts";
export { encoding, retryOptions, secret, timeoutMs } from "./options.ts";
export { checkTls, type TlsConnection, type TlsOptions, tlsConnection, tlsFields } from "./tls.ts";
