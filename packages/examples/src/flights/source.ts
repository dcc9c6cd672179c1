/**
 * Reads records from a file, one at a time: the memory in use does not grow with the file.
 */
import { Effect, FileSystem, type PlatformError, Result, Schema, SchemaIssue, Stream } from "effect"
import { RecordFlight } from "./domain.ts"

/** A record as it stands in the file. */
export interface RawRecord {
  /** Its position among the records, from 1. */
  readonly index: number
  /** The line on which it starts, from 1. */
  readonly line: number
  readonly text: string
}

/** A record that could not be recorded. */
export interface BadRecord {
  readonly index: number
  readonly line: number
  readonly reason: string
}

/** The file cannot be used, or not to its end. */
export class SourceError extends Schema.TaggedError<SourceError>()("SourceError", {
  path: Schema.String,
  reason: Schema.Literals(["Unreadable", "NotAnArray", "Broken"]),
  detail: Schema.String
}) {
  override get message() {
    switch (this.reason) {
      case "Unreadable":
        return `Cannot read ${this.path}: ${this.detail}`
      case "NotAnArray":
        return `${this.path} is not a JSON array of flights: ${this.detail}`
      case "Broken":
        return `${this.path} cannot be read to its end: ${this.detail}`
    }
  }
}

/**
 * The records of a file: the elements of a JSON array, or the lines of a file named `.ndjson` or
 * `.jsonl`. `onBytes` is told what has been read, for a progress bar.
 */
export const readRecords = (
  path: string,
  onBytes: (bytes: number) => void = () => {}
): Stream.Stream<RawRecord, SourceError, FileSystem.FileSystem> => {
  const text = Stream.unwrap(Effect.map(FileSystem.FileSystem, (fs) => fs.stream(path))).pipe(
    Stream.mapError((error) => new SourceError({ path, reason: "Unreadable", detail: describe(error) })),
    Stream.tap((chunk) => Effect.sync(() => onBytes(chunk.length))),
    Stream.decodeText()
  )
  return /\.(ndjson|jsonl)$/i.test(path) ? linesOf(text) : elementsOf(path, text)
}

const describe = ({ message, reason }: PlatformError.PlatformError): string => {
  switch (reason._tag) {
    case "NotFound":
      return "there is no such file"
    case "PermissionDenied":
      return "permission denied"
    case "BadResource":
      return "it is not a file"
    default:
      return message
  }
}

const linesOf = <E, R>(text: Stream.Stream<string, E, R>): Stream.Stream<RawRecord, E, R> => {
  let index = 0
  return text.pipe(
    Stream.splitLines,
    Stream.zipWithIndex,
    Stream.filter(([line]) => line.trim() !== ""),
    Stream.map(([line, number]) => ({ index: ++index, line: number + 1, text: line }))
  )
}

const elementsOf = <E, R>(
  path: string,
  text: Stream.Stream<string, E, R>
): Stream.Stream<RawRecord, E | SourceError, R> =>
  Stream.suspend(() => {
    const splitter = new ArraySplitter()
    return text.pipe(
      Stream.map((chunk) => splitter.push(chunk)),
      Stream.takeUntil(() => splitter.problem !== undefined),
      Stream.flattenIterable,
      Stream.concat(Stream.fromEffectDrain(Effect.suspend(() => {
        const problem = splitter.problem ?? splitter.problemAtEnd
        return problem === undefined ? Effect.void : Effect.fail(new SourceError({ path, ...problem }))
      })))
    )
  })

// A record is far smaller: what grows beyond this has lost a quote or a bracket.
const maxRecordLength = 65_536

/**
 * Splits the text of a JSON array into that of its elements, without parsing them: so that one
 * broken record does not take the others with it, and no more than one is in memory.
 */
class ArraySplitter {
  problem: { readonly reason: "NotAnArray" | "Broken"; readonly detail: string } | undefined
  #state: "before" | "inside" | "after" = "before"
  #line = 1
  #index = 0
  /** The current element: the part from earlier chunks, and the line on which it starts (0: not yet). */
  #text = ""
  #startLine = 0
  #depth = 0
  #inString = false
  #escaped = false
  /** A quote was not closed on its line: the record is broken, and the next one is to be found. */
  #lost = false

  push(chunk: string): ReadonlyArray<RawRecord> {
    const records: Array<RawRecord> = []
    let start = 0
    const finish = (end: number) => {
      this.#lost = false
      records.push({
        index: ++this.#index,
        line: this.#startLine === 0 ? this.#line : this.#startLine,
        text: (this.#text + chunk.slice(start, end)).trim()
      })
      this.#text = ""
      this.#startLine = 0
    }
    for (let i = 0; i < chunk.length && this.problem === undefined; i++) {
      const char = chunk[i]!
      if (char === "\n") {
        this.#line++
        // No JSON string spans lines.
        if (this.#inString) this.#lost = true
        this.#inString = false
        this.#escaped = false
        continue
      }
      if (this.#inString) {
        if (this.#escaped) this.#escaped = false
        else if (char === "\\") this.#escaped = true
        else if (char === "\"") this.#inString = false
        continue
      }
      if (char === " " || char === "\t" || char === "\r") continue
      if (this.#state === "before") {
        if (char === "[") {
          this.#state = "inside"
          start = i + 1
        } else if (char !== "\uFEFF") {
          this.problem = { reason: "NotAnArray", detail: `it starts with ${JSON.stringify(char)}` }
        }
        continue
      }
      if (this.#state === "after") {
        this.problem = { reason: "Broken", detail: `line ${this.#line}: there is more after the end of the array` }
        continue
      }
      if (this.#lost && this.#depth > 0 && (char === "{" || char === "]")) {
        this.#depth = 0
        if (char === "{") {
          finish(i)
          start = i
        }
      }
      if (this.#depth === 0 && char === ",") {
        finish(i)
        start = i + 1
        continue
      }
      if (this.#depth === 0 && char === "]") {
        // `[]` has no element; `[1,]` has an empty one.
        if (this.#index > 0 || this.#startLine > 0) finish(i)
        this.#state = "after"
        continue
      }
      if (this.#startLine === 0) this.#startLine = this.#line
      if (char === "\"") this.#inString = true
      else if (char === "{" || char === "[") this.#depth++
      else if (char === "}" || char === "]") this.#depth = Math.max(0, this.#depth - 1)
    }
    if (this.#state === "inside") this.#text += chunk.slice(start)
    if (this.#text.length > maxRecordLength) {
      this.problem ??= {
        reason: "Broken",
        detail: `record ${this.#index + 1}, which starts on line ${this.#startLine}, does not end`
      }
    }
    return records
  }

  get problemAtEnd(): ArraySplitter["problem"] {
    switch (this.#state) {
      case "before":
        return { reason: "NotAnArray", detail: "it is empty" }
      case "inside":
        return { reason: "Broken", detail: `it ends within record ${this.#index + 1}, on line ${this.#line}` }
      case "after":
        return undefined
    }
  }
}

const decode = Schema.decodeUnknownResult(Schema.fromJsonString(Schema.Struct(RecordFlight.payload)), {
  errors: "all",
  reportInput: true
})

const formatIssue = SchemaIssue.makeFormatterStandardSchemaV1()

/** The command of a record, or why there is none. */
export const toCommand = ({ index, line, text }: RawRecord): Result.Result<RecordFlight, BadRecord> =>
  decode(text).pipe(
    Result.map((flight) => new RecordFlight(flight)),
    Result.mapError(({ issue }) => ({
      index,
      line,
      reason: formatIssue(issue).issues.map(({ message, path }) =>
        path === undefined || path.length === 0 ? message : `${path.join(".")}: ${message}`
      ).join("; ")
    }))
  )
