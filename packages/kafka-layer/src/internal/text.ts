/** Text in the buffers of records. */

/** Undocumented, there since Node 0.12, and twice as fast for short texts as `toString`, which goes by way of them. */
interface Slices {
  readonly latin1Slice?: (start: number, end: number) => string
  readonly utf8Slice?: (start: number, end: number) => string
}

/** Each byte as a character. */
export const latin1 = (buffer: Buffer & Slices, start: number, end: number): string =>
  buffer.latin1Slice === undefined ? buffer.toString("latin1", start, end) : buffer.latin1Slice(start, end)

/** With `\ufffd` in place of what is no text. */
export const utf8 = (buffer: Buffer & Slices, start: number, end: number): string =>
  buffer.utf8Slice === undefined ? buffer.toString("utf8", start, end) : buffer.utf8Slice(start, end)

const decoder = new TextDecoder("utf-8", { fatal: true })

/** What bytes say in UTF-8; undefined when they are no text. */
export const textAt = (buffer: Buffer, start: number, end: number): string | undefined => {
  // Most is ASCII, for which there is a fast way
  if (end - start <= 128) {
    let i = start
    while (i < end && buffer[i]! < 0x80) i++
    if (i === end) return latin1(buffer, start, end)
  }
  try {
    return decoder.decode(buffer.subarray(start, end))
  } catch {
    return undefined
  }
}
