import { NodeServices } from "@effect/platform-node"
import { assert, it } from "@effect/vitest"
import { Effect, Layer, Sink, Stdio } from "effect"
import { withProgress } from "../src/flights/progress.ts"

it.effect("the progress bar is drawn on a terminal, and taken away at the end", () =>
  Effect.gen(function*() {
    const written: Array<string> = []
    const stdio = (stderrIsTerminal: boolean) =>
      Stdio.layerTest({
        stderrIsTerminal: Effect.succeed(stderrIsTerminal),
        stderr: () => Sink.forEach((text) => Effect.sync(() => written.push(String(text))))
      })
    const work = Effect.yieldNow.pipe(withProgress(() => ({ fraction: 0.5, label: "half" })))
    yield* Effect.provide(work, Layer.provideMerge(stdio(false), NodeServices.layer))
    assert.deepStrictEqual(written, [])
    yield* Effect.provide(work, Layer.provideMerge(stdio(true), NodeServices.layer))
    assert.match(written[0] ?? "", /█{15}░{15} {2}50 % {2}half/)
    assert.strictEqual(written.at(-1), "\r\u001b[K")
  }))
