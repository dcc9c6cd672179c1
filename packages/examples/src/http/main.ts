/**
 * Commands over HTTP: `PORT=3000 node main.ts`, then open /docs. Ends on SIGTERM or Ctrl-C.
 */
import { NodeRuntime } from "@effect/platform-node"
import { MemoryBroker } from "@event-flow/core"
import { Cause, Config, Effect, Exit, Layer, Runtime, Schema } from "effect"
import { AnnouncementsLive } from "./meetings.ts"
import { layer } from "./server.ts"

// 0: any free port.
const Port = Config.schema(Schema.Int.check(Schema.isBetween({ minimum: 0, maximum: 65_535 })), "PORT")

const Main = Layer.unwrap(Effect.map(
  Port.pipe(Config.withDefault(3000)),
  // Below the server, so that it is open for as long as there are requests.
  (port) => Layer.provide(layer({ port }), AnnouncementsLive)
)).pipe(Layer.provide(MemoryBroker.layer()))

// On top of everything, so it closes first.
const Farewell = Layer.effectDiscard(
  Effect.addFinalizer(() => Effect.log("Stopping: waiting for the requests in flight"))
)

Layer.launch(Layer.provideMerge(Farewell, Main)).pipe(
  NodeRuntime.runMain({
    // A signal is how a server is meant to end.
    teardown: (exit, onExit) =>
      Exit.isFailure(exit) && Cause.hasInterruptsOnly(exit.cause) ? onExit(0) : Runtime.defaultTeardown(exit, onExit)
  })
)
