/**
 * A progress bar on a terminal, and nothing at all where standard error is a file or a pipe.
 */
import { Effect, Schedule, Stdio, Stream, Terminal } from "effect"

const clearLine = "\r\u001b[K"
const barWidth = 30

/** Shows, while the effect runs, how far it is (0 to 1) and what it says of itself. */
export const withProgress =
  (state: () => { readonly fraction: number; readonly label: string }) =>
  <A, E, R>(effect: Effect.Effect<A, E, R>): Effect.Effect<A, E, R | Stdio.Stdio | Terminal.Terminal> =>
    Effect.scoped(Effect.gen(function*() {
      const stdio = yield* Stdio.Stdio
      if (!(yield* stdio.stderrIsTerminal)) return yield* effect
      const terminal = yield* Terminal.Terminal
      const write = (text: string) => Effect.ignore(Stream.run(Stream.make(text), stdio.stderr()))
      const draw = Effect.flatMap(terminal.columns, (columns) => {
        const { fraction, label } = state()
        const done = Math.round(Math.min(1, fraction) * barWidth)
        const bar = "█".repeat(done) + "░".repeat(barWidth - done)
        const percent = `${Math.floor(Math.min(1, fraction) * 100)} %`.padStart(5)
        return write(clearLine + `${bar} ${percent}  ${label}`.slice(0, (columns || 80) - 1))
      })
      yield* Effect.addFinalizer(() => write(clearLine))
      yield* Effect.forkScoped(Effect.repeat(draw, Schedule.spaced("50 millis")))
      return yield* effect
    }))
