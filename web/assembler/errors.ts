/** A mistake in the source, at the text it is about. Lines and columns count from 1. */
export interface SourceError {
  readonly line: number;
  readonly column: number;
  readonly length: number;
  readonly message: string;
}

/** Thrown inside a line; the assembler adds the line's number and goes on with the next one. */
export class LineError extends Error {
  override name = "LineError";
  constructor(
    message: string,
    readonly column: number,
    readonly length = 1,
  ) {
    super(message);
  }
}
