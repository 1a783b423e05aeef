import type { EventFields, Message } from "../record/index.ts";

/**
 * A message of a queue whose body may be a JSON object: then its keys are the event's fields, and win over those that the
 * queue adds; any other body is the `message`. Parsed only when somebody asks for the event, each time anew.
 */
export class JsonMessage implements Message {
  readonly number: number;
  readonly body: Buffer;
  /** What the queue says of it, beside the body. */
  readonly #beside: EventFields;

  constructor(number: number, body: Buffer, beside: EventFields) {
    this.number = number;
    this.body = body;
    this.#beside = beside;
  }

  get fields(): EventFields {
    const parsed = parseObject(this.body);
    if (parsed === undefined) return { ...this.#beside, message: this.body.toString("utf8") };
    // Spread makes own fields, also of a key named __proto__: it does not become the prototype.
    return { ...this.#beside, ...parsed };
  }
}

const OPENING_BRACE = 0x7b;

function parseObject(body: Buffer): object | undefined {
  // What does not begin with a brace (or with the white space of JSON) is no object: not worth an exception.
  const first = body[0];
  if (first !== OPENING_BRACE && first !== 0x20 && first !== 0x0a && first !== 0x0d && first !== 0x09) return undefined;
  try {
    const value: unknown = JSON.parse(body.toString("utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
