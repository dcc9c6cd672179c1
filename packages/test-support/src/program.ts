/** Programs that tests run in processes of their own, to kill them. No vitest: the programs use it, too. */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import { spawn } from "node:child_process"
import { createInterface } from "node:readline"
import { type Background, inBackground } from "./background.ts"

/**
 * For the program: writes a line to the output. It ends when the operating system has the line, so a kill that comes
 * later does not take the line away. (`writeSync` throws EAGAIN when the reader is slow, once something has used the
 * console: that makes the pipe non-blocking.)
 */
export const print = (line: string): Effect.Effect<void> =>
  Effect.callback<void>((resume) => {
    process.stdout.write(`${line}\n`, (error) => resume(error ? Effect.die(error) : Effect.void))
  })

export interface Program {
  /** SIGKILL. Ends when the process is gone and every line of its output was read. */
  readonly kill: Effect.Effect<void>
}

/** For the test: starts a TypeScript program, as `startCommand` does. */
export const startProgram = (
  file: string,
  args: ReadonlyArray<string>,
  onLine: (line: string) => void
): Effect.Effect<Program, never, Background | Scope.Scope> =>
  startCommand(process.execPath, ["--conditions=@event-flow/source", "--no-warnings", file, ...args], onLine)

/**
 * For the test: starts a command, which is killed with the scope, and reads the lines of its output. A command that
 * ends by itself fails the test.
 */
export const startCommand = (
  command: string,
  args: ReadonlyArray<string>,
  onLine: (line: string) => void
): Effect.Effect<Program, never, Background | Scope.Scope> =>
  Effect.gen(function*() {
    const program = yield* Effect.acquireRelease(
      Effect.sync(() => {
        const child = spawn(command, args, {
          stdio: ["ignore", "pipe", "inherit"],
          env: { ...process.env, NODE_OPTIONS: "" }
        })
        createInterface({ input: child.stdout }).on("line", onLine)
        let isKilled = false
        // "close" and not "exit": the output may outlive the process
        const ended = new Promise<void>((resolve, reject) => {
          child.once("error", reject)
          child.once("close", (code, signal) => {
            if (isKilled) resolve()
            else reject(new Error(`${command} ${args.join(" ")} has ended by itself, with ${code ?? signal}`))
          })
        })
        const kill = Effect.suspend(() => {
          isKilled = true
          child.kill("SIGKILL")
          return Effect.promise(() => ended)
        })
        return { ended, kill }
      }),
      // A program that has ended by itself was reported
      ({ kill }) => Effect.exit(kill)
    )
    yield* inBackground(Effect.promise(() => program.ended))
    return { kill: program.kill }
  })
