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

/** Imports of modules in place of barrels, which no bundler has to look through. */
const byModule = (program: string): string =>
  program.replaceAll(
    /^import \{ ([^}]*) \} from "([^"]+)"$/gm,
    (_, names: string, from: string) =>
      names.split(", ").map((name) => `import * as ${name} from "${from}/${name}"`).join("\n")
  )

interface Bundle {
  readonly minified: number
  readonly compressed: number
  /** The bytes of each module of core, the largest first. */
  readonly own: ReadonlyArray<readonly [module: string, bytes: number]>
}

const bundle = async (program: string): Promise<Bundle> => {
  const { metafile, outputFiles: [output] } = await build({
    stdin: { contents: byModule(program), resolveDir: root, loader: "ts" },
    absWorkingDir: root,
    conditions: ["@event-flow/source"],
    bundle: true,
    minify: true,
    format: "esm",
    platform: "neutral",
    metafile: true,
    write: false
  })
  const [{ inputs }] = Object.values(metafile.outputs) as [(typeof metafile.outputs)[string]]
  const { contents } = output!
  return {
    minified: contents.length,
    compressed: gzipSync(contents).length,
    own: Object.entries(inputs)
      .filter(([module, { bytesInOutput }]) => module.startsWith("packages/core/") && bytesInOutput > 0)
      .map(([module, { bytesInOutput }]) => [module, bytesInOutput] as const)
      .toSorted(([, a], [, b]) => b - a)
  }
}

describe("what core adds to a program on Effect", () => {
  let whole: Bundle
  let without: Bundle
  beforeAll(async () => {
    ;[whole, without] = await Promise.all([bundle(quickStart), bundle(onEffectAlone)])
  })

  const largest = () => whole.own.slice(0, 10).map(([module, bytes]) => `${bytes} ${module}`).join("\n")

  it("is at most 34 kB, minified and compressed, with all of Effect that the program itself does not use", () => {
    const added = whole.compressed - without.compressed
    assert.isAtMost(added, 34_000, `Before compression ${whole.minified - without.minified} bytes:\n${largest()}\n`)
  })

  it("is at most 52 kB of its own code, minified", () => {
    const own = whole.own.reduce((sum, [, bytes]) => sum + bytes, 0)
    assert.isAtMost(own, 52_000, `The largest modules:\n${largest()}\n`)
  })

  it("has nothing of the memory broker, the consumer, the graph or testing, which the quick start does not use", () => {
    const unused =
      /\/(MemoryBroker|EventConsumer|Subscriber|FlowGraph|AsyncApi|Resilience|testing|consumer|graph|memoryBroker)\b/
    assert.deepStrictEqual(whole.own.filter(([module]) => unused.test(module)), [])
  })
})
