/**
 * A subject that runs in a process of its own (see `child.ts`), which sleeps while it is not its turn.
 */
import { fork } from "node:child_process"
import { join } from "node:path"
import type { Subject, SubjectName } from "./subject.ts"
import { type Tally, tally } from "./workload.ts"

interface Reply<A> {
  readonly value?: A
  readonly error?: string
}

export const loadApart = async (name: SubjectName): Promise<Subject> => {
  const child = fork(join(import.meta.dirname, "child.ts"), [name], {
    execArgv: ["--conditions=@event-flow/source"],
    serialization: "advanced"
  })
  const reply = <A>(): Promise<A> =>
    new Promise((resolve, reject) => {
      const ended = () => reject(new Error(`the process of ${name} ended`))
      child.once("exit", ended)
      child.once("message", (message: Reply<A>) => {
        child.off("exit", ended)
        if (message.error === undefined) resolve(message.value as A)
        else reject(new Error(`${name}: ${message.error}`))
      })
    })
  const ask = <A>(question: object): Promise<A> => {
    const answer = reply<A>()
    child.send(question)
    return answer
  }
  const { packages } = await reply<{ readonly packages: ReadonlyArray<string> }>()
  return {
    name,
    packages,
    setup: async (workload) => {
      const { hasWorkload } = await ask<{ readonly hasWorkload: boolean }>({ ask: "setup", workload })
      if (!hasWorkload) return undefined
      return async (units) => {
        const done = await ask<{ readonly ns: number; readonly tally: Tally }>({ ask: "run", workload, units })
        Object.assign(tally, done.tally)
        return done.ns
      }
    },
    close: async () => {
      await ask({ ask: "close" })
    }
  }
}
