/** Keeps a process of the example running, as an orchestrator does, until it is told to take it down. */
import { Effect, Latch, type Scope } from "effect"
import { appendFileSync } from "node:fs"
import { start } from "../support.ts"

export interface Supervised {
  /** Ends it, and waits for that. It stays down. */
  readonly down: (signal: "SIGKILL" | "SIGTERM") => Effect.Effect<void>
  readonly up: Effect.Effect<void>
  /** Whether it has completed its start. */
  readonly isReady: () => boolean
  readonly signal: (signal: "SIGSTOP" | "SIGCONT") => Effect.Effect<void>
}

export interface Options {
  readonly name: string
  readonly args: ReadonlyArray<string>
  readonly env: Record<string, string>
  readonly log: string
  /** It has ended by itself: how, and whether that was after its start. It is started again. */
  readonly onEnd: (how: string, wasReady: boolean) => void
  /** It has not ended within its time after SIGTERM. */
  readonly onStuck: (patience: string) => void
}

/** More than the drain timeouts of a consumer and of its connections take together. */
const patience = "60 seconds"

export const make = (options: Options): Effect.Effect<Supervised, never, Scope.Scope> =>
  Effect.gen(function*() {
    const isWanted = yield* Latch.make(true)
    let child: ReturnType<typeof start> | undefined
    let isTold = false
    let isReady = false

    const once = Effect.gen(function*() {
      yield* isWanted.await
      isTold = false
      isReady = false
      appendFileSync(options.log, `--- ${new Date().toISOString()} start\n`)
      const { code, stderr, stdout } = yield* Effect.acquireUseRelease(
        Effect.sync(() => child = start("orders/main.ts", options.args, options.env, options.log)),
        (child) => {
          // It may end before
          child.printed(readiness).then(() => isReady = true, () => {})
          return Effect.promise(() => child.ended)
        },
        (child) => Effect.sync(() => child.kill("SIGKILL"))
      )
      child = undefined
      const wasReady = isReady
      isReady = false
      appendFileSync(options.log, `--- ${new Date().toISOString()} ended with ${code}\n`)
      if (isTold) return
      options.onEnd(`${code}: ${reasonIn(stdout, stderr)}`, wasReady)
      yield* Effect.sleep("1 second")
    })
    yield* Effect.forkScoped(Effect.forever(once))

    return {
      down: (signal) =>
        Effect.gen(function*() {
          isWanted.closeUnsafe()
          const running = child
          if (running === undefined) return
          isTold = true
          running.kill(signal)
          yield* Effect.promise(() => running.ended).pipe(
            Effect.timeoutOrElse({
              duration: patience,
              orElse: () => {
                options.onStuck(patience)
                running.kill("SIGKILL")
                return Effect.promise(() => running.ended)
              }
            })
          )
        }),
      isReady: () => isReady,
      up: Effect.sync(() => isWanted.openUnsafe()),
      signal: (signal) => Effect.sync(() => child?.kill(signal))
    }
  })

const readiness = /^(?:ready|progress) /m

/** A bug, which the runtime writes to the standard output, else the last line of the other one. */
const reasonIn = (stdout: string, stderr: string): string => {
  const bug = stdout.split("\n").findLast((line) => line.includes("] ERROR ("))
  return (bug ?? stderr.trimEnd().split("\n").at(-1)!).trim().slice(0, 300)
}
