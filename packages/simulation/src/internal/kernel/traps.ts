/**
 * While a run goes on, whatever reads the outside or lets it in is recorded with its stack. A run is synchronous, so
 * nobody else sees the globals that are replaced meanwhile.
 */

/** What the traps answer with, so that even an escape gives the same run. */
export interface Answers {
  readonly now: () => number
  readonly random: () => number
  readonly uuid: () => string
}

type Restore = () => void

/** Never more than this: one place in a loop escapes thousands of times. */
const limit = 20

/** Replaces the globals; gives what escaped so far, and a function that puts them back. */
export const setTraps = (answers: Answers): { readonly escaped: ReadonlyArray<string>; readonly restore: Restore } => {
  const escaped: Array<string> = []
  const seen = new Set<string>()
  const escape = (name: string): void => {
    if (escaped.length >= limit) return
    // V8 keeps ten lines otherwise, which Effect fills
    const limited: { stackTraceLimit?: number } = Error as object
    const { stackTraceLimit = 10 } = limited
    limited.stackTraceLimit = 30
    const stack = new Error().stack ?? ""
    limited.stackTraceLimit = stackTraceLimit
    const text = [name, ...framesOf(stack)].join("\n")
    if (seen.has(text)) return
    seen.add(text)
    escaped.push(text)
  }
  const restores: Array<Restore> = []
  const replace = <T extends object, K extends keyof T>(target: T | undefined, key: K, value: T[K]): void => {
    if (target === undefined || typeof target[key] !== "function") return
    const descriptor = Object.getOwnPropertyDescriptor(target, key)
    Object.defineProperty(target, key, { value, configurable: true, writable: true })
    restores.push(() => {
      if (descriptor === undefined) delete target[key]
      else Object.defineProperty(target, key, descriptor)
    })
  }
  const ignoring = (name: string) => (): never => {
    escape(name)
    // What a timer would run is lost: a run leaves nothing behind
    return noTimer as never
  }
  const { crypto, performance } = globalThis
  // There is none in a browser
  const { process } = globalThis as { readonly process?: { nextTick: unknown } }
  const OriginalDate = Date
  for (const name of ["setTimeout", "setInterval", "setImmediate", "queueMicrotask"] as const) {
    replace(globalThis as { [K in typeof name]?: unknown }, name, ignoring(name))
  }
  replace(process, "nextTick", ignoring("process.nextTick"))
  replace(globalThis, "fetch", () => {
    escape("fetch")
    return new Promise<never>(() => {})
  })
  const { then } = Promise.prototype
  replace(
    Promise.prototype,
    "then",
    function(this: Promise<unknown>, ...args: ReadonlyArray<unknown>) {
      escape("a promise that is waited for")
      return Reflect.apply(then, this, args)
    } as typeof then
  )
  replace(Math, "random", () => {
    escape("Math.random")
    return answers.random()
  })
  replace(performance, "now", () => {
    escape("performance.now")
    return answers.now()
  })
  replace(crypto, "randomUUID", () => {
    escape("crypto.randomUUID")
    return answers.uuid() as ReturnType<typeof crypto.randomUUID>
  })
  replace(crypto, "getRandomValues", (array) => {
    escape("crypto.getRandomValues")
    if (ArrayBuffer.isView(array)) {
      const bytes = new Uint8Array(array.buffer, array.byteOffset, array.byteLength)
      for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(answers.random() * 256)
    }
    return array
  })
  const dateNow = (): number => {
    escape("Date.now")
    return answers.now()
  }
  replace(
    globalThis as { Date: DateConstructor },
    "Date",
    new Proxy(OriginalDate, {
      get: (target, key) => key === "now" ? dateNow : Reflect.get(target, key),
      apply: (target) => {
        escape("Date()")
        return new target(answers.now()).toString()
      },
      construct: (target, args, newTarget) => {
        if (args.length > 0) return Reflect.construct(target, args, newTarget)
        escape("new Date()")
        return Reflect.construct(target, [answers.now()], newTarget)
      }
    })
  )
  return {
    escaped,
    restore: () => {
      for (const restore of restores.toReversed()) restore()
    }
  }
}

/** What callers do with a timer, none of which does anything. */
const noTimer = {
  ref: () => noTimer,
  unref: () => noTimer,
  hasRef: () => false,
  refresh: () => noTimer,
  close: () => noTimer,
  [Symbol.toPrimitive]: () => 0,
  [Symbol.dispose]: () => {}
}

/** The lines of the program: not those of the trap, nor of what Effect does on the way to it. */
const framesOf = (stack: string): ReadonlyArray<string> => {
  const frames = stack.split("\n").slice(1).map((line) => line.trim()).filter((line) => !line.includes(here))
  const own = frames.filter((line) => !/node_modules|node:internal/.test(line))
  return (own.length > 0 ? own : frames).slice(0, 6)
}

const here = "kernel/traps"
