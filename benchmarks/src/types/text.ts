/** Source text of many lines. */

export const lines = (...texts: ReadonlyArray<string>): string => `${texts.join("\n")}\n`

export const each = (count: number, text: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => text(i)).join("\n")

export const list = (count: number, text: (i: number) => string): string =>
  Array.from({ length: count }, (_, i) => text(i)).join(", ")

export const importNames = (count: number, prefix: string, from: string, suffix = ""): string =>
  `import { ${list(count, (i) => `${prefix}${i}${suffix}`)} } from "${from}"`
