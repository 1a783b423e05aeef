import { Duplex } from "node:stream";

export async function embeddedConnection(_folder: string): Promise<Duplex> {
  return new Duplex();
}
