/**
 * The part of a flow that one dispatch or one delivery runs, as it is found
 * from a fiber: its correlation, how deep it is, and which commands it may send.
 */
import * as Context from "effect/Context"
import * as Ids from "../../Ids.ts"
import type { Message } from "../../Message.ts"
import type { Delivery } from "../../Subscriber.ts"
import type { GivenServices } from "../definition/givenServices.ts"
import type { Watching } from "./observers.ts"

type AnyContext = Context.Context<never>

/** The flow that the code of a context runs in. */
export const CurrentFlow: Context.Reference<Flow | undefined> = Context.Reference<Flow | undefined>(
  "@event-flow/core/internal/CurrentFlow",
  { defaultValue: () => undefined }
)

/** What a dispatcher provides for each command, by tag; see `route.ts`. */
export type Routes = ReadonlyMap<string, object>

interface FlowIds {
  readonly correlationId: string
  readonly causationId: string | undefined
}

interface Origin {
  readonly correlationId: string | undefined
  readonly causationId: string | undefined
  readonly consumed?: Consumed | undefined
}

/**
 * Its members are private to the compiler alone: those of the language cost a
 * twentieth of a send, since every dispatch makes a flow.
 *
 * It also keeps the two contexts that let handlers share the work of joining
 * contexts. All of it is made when first needed: most flows need little of it.
 */
export class Flow implements FlowIds {
  private callerContext: AnyContext
  /** The commands that the handlers of this flow may send. */
  readonly routes: Routes | undefined
  /** How many follow-ups an event that is collected now is away from the first command. */
  depth: number
  /** Who watches this flow, once somebody was asked. */
  readonly watching: Watching | undefined
  /** The flow that this one is part of, as far up as it goes: a chain of nested sends may be of any length. */
  private readonly root: Flow | undefined
  private readonly firstDepth: number
  /** The flow whose handlers of another depth these are. */
  private whole: Flow | undefined = undefined
  /** Where it came from; that of a part is its root's. */
  private readonly origin: Origin | undefined
  private ownId: string | undefined = undefined
  private ownContext: AnyContext | undefined = undefined
  private joined: AnyContext | undefined = undefined
  private handlers: AnyContext | undefined = undefined

  constructor(
    caller: AnyContext,
    origin: Flow | Origin | undefined,
    routes: Routes | undefined,
    depth: number,
    watching: Watching | undefined
  ) {
    this.callerContext = caller
    if (origin instanceof Flow) this.root = origin.root ?? origin
    else this.origin = origin
    this.watching = watching
    this.routes = routes
    this.depth = this.firstDepth = depth
  }

  /** The flow of a dispatch that starts in this context, part of the flow that runs there, if one does. */
  static startedIn(
    caller: AnyContext,
    parent: Flow | undefined,
    routes: Routes,
    watching: Watching | undefined
  ): Flow {
    return new Flow(caller, parent, routes, parent === undefined ? 0 : parent.depth, watching)
  }

  /** The same flow, in another context. */
  static continuedIn(caller: AnyContext): Flow {
    const parent = Context.get(caller, CurrentFlow)
    return new Flow(caller, parent, parent?.routes, parent?.depth ?? 0, parent?.watching)
  }

  /** The same context, in the same flow under another correlation. */
  static correlated(context: AnyContext, correlation: FlowIds): AnyContext {
    const parent = Context.get(context, CurrentFlow)
    const { causationId, correlationId } = correlation
    const origin: Origin = { correlationId, causationId, consumed: parent?.consumed }
    // Its caller stays: what the handler itself has provided is nearer than the flow (see `routeOf`)
    const flow = new Flow(parent?.caller ?? context, origin, parent?.routes, parent?.depth ?? 0, parent?.watching)
    return Context.addUnsafe(context, CurrentFlow.key, flow)
  }

  /** The flow of a consumed message: one that started elsewhere. */
  static consuming(
    caller: AnyContext,
    routes: Routes | undefined,
    consumed: Consumed,
    watching: Watching | undefined
  ): Flow {
    return new Flow(caller, consumed, routes, 0, watching)
  }

  /** This flow for handlers that run beside those of other depths. */
  atDepth(depth: number): Flow {
    const flow = new Flow(Context.empty(), this, this.routes, depth, this.watching)
    // Has the caller, also when it has let go of that
    flow.whole = this
    return flow
  }

  /** The context of whoever sent the command. */
  get caller(): AnyContext {
    return this.whole === undefined ? this.callerContext : this.whole.caller
  }

  get correlationId(): string {
    const root = this.root ?? this
    return root.origin?.correlationId ?? (root.ownId ??= Context.get(root.caller, Ids.Ids).next())
  }

  get causationId(): string | undefined {
    return (this.root ?? this).origin?.causationId
  }

  /** The consumed message that this flow works on, if there is one. */
  get consumed(): Consumed | undefined {
    return (this.root ?? this).origin?.consumed
  }

  /** The context of the caller, with this flow in it. */
  get context(): AnyContext {
    return this.ownContext ??= Context.addUnsafe(this.caller, CurrentFlow.key, this)
  }

  /**
   * The context to run a handler in. Each flow has a context of its own, which
   * would defeat the cache of joined contexts; so the caller's context is joined
   * (cached) and the flow added to the result.
   */
  handlerContext(services: GivenServices): AnyContext {
    const joined = services.joinedTo(this.caller)
    if (joined === this.caller) return this.context
    // The same handler again, as in a chain of follow-ups
    if (this.handlers === undefined || this.joined !== joined) {
      this.joined = joined
      this.handlers = Context.addUnsafe(joined, CurrentFlow.key, this)
    }
    return this.handlers
  }

  /**
   * Lets go of the contexts when the dispatch has ended, and goes back to its
   * first depth: a fiber that outlives the dispatch sends from there. A context refers to its
   * flow from an object that V8 may have allocated as an old one; what that
   * refers to outlives the next young collections, so it should be little. The
   * caller of a part is the flow that it is part of: a command that forks its
   * successor would keep the contexts of all of its predecessors.
   */
  release(): void {
    this.depth = this.firstDepth
    if (this.root !== undefined) this.callerContext = this.root.caller
    this.ownContext = undefined
    this.joined = undefined
    this.handlers = undefined
  }
}

/** A consumed message as the origin of a flow: a `ConsumedMessage`, and its delivery. */
export interface Consumed extends Origin {
  readonly delivery: Delivery
  readonly message: Message
  readonly group: string
  readonly attempt: number
  readonly origin: Readonly<Record<string, string>>
}

/** The consumed message that the code of this context works on, if there is one. */
export const consumedOf = (context: AnyContext): Consumed | undefined => Context.get(context, CurrentFlow)?.consumed
