/** What core adds to a bundle: the quick start of the README, beside the same program on Effect alone. */
import { assert, beforeAll, describe, it } from "@effect/vitest"
import { build } from "esbuild"
import { gzipSync } from "node:zlib"
import { samples } from "./markdown.ts"
import { root } from "./support.ts"

const quickStart = samples.find(({ file, tags }) => file === "README.md" && tags.includes("quick-start"))!.code

/** The same program without commands, events and a flow: schemas, a service, a layer, a typed error, a console. */
const onEffectAlone = `
import { Console, Context, Effect, Layer, Schema } from "effect"

class UserJoined extends Schema.TaggedClass<UserJoined>()("UserJoined", {
  meetingId: Schema.String,
  userId: Schema.String
}) {}

class MeetingFull extends Schema.TaggedError<MeetingFull>()("MeetingFull", { meetingId: Schema.String }) {}

class Meetings extends Context.Service<Meetings, {
  readonly join: (meetingId: string, userId: string) => Effect.Effect<number, MeetingFull>
}>()("Meetings") {}

const MeetingsLive = Layer.sync(Meetings, () => {
  let seats = 2
  const greet = (event: UserJoined) => Console.log(\`Welcome to \${event.meetingId}, \${event.userId}!\`)
  return Meetings.of({
    join: Effect.fnUntraced(function*(meetingId, userId) {
      if (seats === 0) return yield* new MeetingFull({ meetingId })
      yield* greet(new UserJoined({ meetingId, userId }))
      return --seats
    })
  })
})

const program = Effect.gen(function*() {
  const meetings = yield* Meetings
  for (const userId of ["Ada", "Grace", "Edsger"]) {
    const seats = yield* meetings.join("effect-days", userId)
    yield* Console.log(\`\${userId} is in, \${seats} seat(s) left\`)
  }
}).pipe(
  Effect.catchTag("MeetingFull", ({ meetingId }) => Console.log(\`\${meetingId} is full\`))
)

Effect.runPromise(program.pipe(Effect.provide(MeetingsLive)))
`

interface Bundle {
  readonly minified: number
  readonly compressed: number
  /** Bytes of each module, the largest first. */
  readonly modules: ReadonlyArray<readonly [module: string, bytes: number]>
}

const bundle = async (contents: string): Promise<Bundle> => {
  const { metafile, outputFiles: [output] } = await build({
    stdin: { contents, resolveDir: root, loader: "ts" },
    absWorkingDir: root,
    conditions: ["@event-flow/source"],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "neutral",
    metafile: true,
    write: false
  })
  const [outputs] = Object.values(metafile.outputs)
  return {
    minified: output!.contents.length,
    compressed: gzipSync(output!.contents).length,
    modules: Object.entries(outputs!.inputs).map(([module, { bytesInOutput }]) => [module, bytesInOutput] as const)
      .toSorted(([, a], [, b]) => b - a)
  }
}

describe("what core adds to a program on Effect", () => {
  let whole: Bundle
  let without: Bundle
  beforeAll(async () => {
    ;[whole, without] = await Promise.all([bundle(quickStart), bundle(onEffectAlone)])
  })

  const isOwn = (module: string) => module.startsWith("packages/core/")
  const largest = () =>
    whole.modules.filter(([module]) => isOwn(module)).slice(0, 10).map(([module, bytes]) => `${bytes} ${module}`).join(
      "\n"
    )

  it("is at most 30 kB, minified and compressed, with the modules of Effect that it needs beside those of the program", () => {
    const added = whole.compressed - without.compressed
    assert.isAtMost(
      added,
      30_000,
      `Of ${whole.compressed} bytes. The largest modules, before compression:\n${largest()}`
    )
  })

  it("is at most 50 kB of its own code, minified", () => {
    const own = whole.modules.filter(([module]) => isOwn(module)).reduce((sum, [, bytes]) => sum + bytes, 0)
    assert.isAtMost(own, 50_000, `Of ${whole.minified} bytes. The largest modules:\n${largest()}`)
  })

  it("has nothing of a broker, the consumer, the graph or testing, which the quick start does not use", () => {
    const unused =
      /\/(MemoryBroker|EventConsumer|Subscriber|FlowGraph|AsyncApi|Resilience|testing\/.*|internal\/(consumer|graph|memoryBroker)\/.*)\.ts$/
    assert.deepStrictEqual(
      whole.modules.filter(([module, bytes]) => bytes > 0 && isOwn(module) && unused.test(module)),
      []
    )
  })
})
