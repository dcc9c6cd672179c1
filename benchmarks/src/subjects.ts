import { existsSync } from "node:fs"
import type { Subject, SubjectName } from "./subject.ts"
import { Unavailable } from "./subject.ts"

/** In the order of the table. A subject is one file with a default export, loaded only when it is asked for. */
export const files: Record<SubjectName, string> = {
  "event-flow": "eventFlow",
  "effect": "effect",
  "plain": "plain",
  "@nestjs/cqrs": "nestjs",
  "mediatr-ts": "mediatr",
  "python-cqrs": "pythonCqrs",
  "ideal": "ideal"
}

export const names = Object.keys(files) as ReadonlyArray<SubjectName>

export const load = async (name: SubjectName): Promise<Subject> => {
  const url = new URL(`./subjects/${files[name]}.ts`, import.meta.url)
  if (!existsSync(url)) {
    throw new Unavailable(`benchmarks/src/subjects/${files[name]}.ts is not written yet`)
  }
  const module: { readonly default: Subject } = await import(url.href)
  return module.default
}
