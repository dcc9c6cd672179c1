/** What invariants see of a run. */
import type * as Event from "@event-flow/core/Event"
import * as MessageCodec from "@event-flow/core/MessageCodec"
import type * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"
import type { NodesView } from "../../Invariant.ts"
import type { SimulatedBroker } from "../broker/broker.ts"
import type { World } from "../kernel/world.ts"
import type { StoreEngine } from "../store/engine.ts"

const codec = MessageCodec.cloudEvents()

export const makeView = (
  world: World,
  broker: SimulatedBroker,
  store: StoreEngine,
  services: (node: string) => ReadonlyArray<Context.Context<never>>
): NodesView => ({
  get now() {
    return world.loop.now
  },
  get unacknowledged() {
    return broker.unacknowledged
  },
  // A table alone writes rows of its name
  rows: <A>(table: { readonly tableName: string }) => store.committed(table.tableName) as ReadonlyMap<string, A>,
  row: <A>(table: { readonly tableName: string }, key: string) =>
    store.committed(table.tableName).get(key) as A | undefined,
  messages: (topic) => broker.published(topic).map(({ message }) => message),
  events: (event) => {
    const known = new Map([[event.tag, event]])
    return broker.published(event.route.topic).flatMap(({ message }) => {
      const decoded = Effect.runSyncExit(codec.decode(message, known))
      // The codec decodes to instances of the known class
      return Exit.isSuccess(decoded) ? [decoded.value as unknown as Event.Instance<typeof event>] : []
    })
  },
  services
})
