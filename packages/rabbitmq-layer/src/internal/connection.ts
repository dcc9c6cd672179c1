/** One connection to the server, opened again whenever it is lost. */
import type * as Health from "@event-flow/core/Health"
import { type ChannelModel, connect as amqpConnect, type Options } from "amqplib"
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Queue from "effect/Queue"
import * as Random from "effect/Random"
import * as Redacted from "effect/Redacted"
import * as Result from "effect/Result"
import type * as Scope from "effect/Scope"
import { ask, ConnectFailure, detailOf } from "./amqpError.ts"
import { readUnreadable } from "./frames.ts"
import type { ConnectionSettings } from "./settings.ts"
import { destroy, gathering } from "./socket.ts"

/** An open connection, until it is lost. */
export interface Link {
  readonly model: ChannelModel
  /** Why it was lost. */
  readonly lost: Deferred.Deferred<string>
  /** What is written from now on goes out together, in the next turn of the event loop. */
  readonly gather: () => void
}

export interface Connection {
  /** Waits for an open link. Fails when the server refuses this program. */
  readonly link: Effect.Effect<Link, ConnectFailure>
  /** Why there is no link. Undefined while there is one, and before the first attempt has failed. */
  readonly problem: () => string | undefined
}

/** `onState` is told whether the server takes what this program sends. */
export const make: (
  settings: ConnectionSettings,
  onState?: (state: Health.State, detail?: string) => void
) => Effect.Effect<Connection, never, Scope.Scope> = Effect
  .fnUntraced(function*(settings: ConnectionSettings, onState: OnState = () => {}) {
    const state = new State(onState)
    yield* supervise(settings, state).pipe(
      Effect.annotateLogs({
        package: "@event-flow/rabbitmq-layer",
        server: `${settings.hostname}:${settings.port}`,
        connection: settings.connectionName
      }),
      Effect.forkScoped
    )
    return { link: state.next, problem: () => state.problem }
  })

/** Waits before the attempt after `failures` failed ones: doubling, between half and all of it. */
export const backoff = (settings: ConnectionSettings, failures: number): Effect.Effect<void> =>
  Effect.flatMap(Random.next, (random) => {
    const most = Math.min(settings.maxReconnectDelay, settings.reconnectDelay * 2 ** Math.min(failures, 30))
    return Effect.sleep(most * (0.5 + random / 2))
  })

// --- internal ---

type OnState = (state: Health.State, detail?: string) => void

class State {
  readonly onState: OnState
  #link: Link | undefined = undefined
  #waiting = new Set<(result: Effect.Effect<Link, ConnectFailure>) => void>()
  problem: string | undefined = undefined

  constructor(onState: OnState) {
    this.onState = onState
  }

  opened(link: Link): void {
    this.#link = link
    this.problem = undefined
    this.onState("connected")
    this.#resume(Effect.succeed(link))
  }

  closed(problem: string): void {
    this.#link = undefined
    this.problem = problem
    this.onState("disconnected", problem)
  }

  refused(failure: ConnectFailure): void {
    this.#resume(Effect.fail(failure))
  }

  #resume(result: Effect.Effect<Link, ConnectFailure>): void {
    const waiting = this.#waiting
    this.#waiting = new Set()
    for (const resume of waiting) resume(result)
  }

  readonly next: Effect.Effect<Link, ConnectFailure> = Effect.callback((resume) => {
    if (this.#link !== undefined) return resume(Effect.succeed(this.#link))
    this.#waiting.add(resume)
    return Effect.sync(() => {
      this.#waiting.delete(resume)
    })
  })
}

type Notice =
  | { readonly _tag: "Blocked"; readonly reason: string }
  | { readonly _tag: "Unblocked" }
  | { readonly _tag: "Lost"; readonly reason: string }

const supervise = Effect.fnUntraced(function*(settings: ConnectionSettings, state: State): Effect.fn.Return<never> {
  let failures = 0
  while (true) {
    const ended = yield* Effect.result(Effect.scoped(session(settings, state, () => failures = 0)))
    if (Result.isSuccess(ended)) {
      yield* Effect.logWarning(`Lost the connection to RabbitMQ: ${ended.success}`)
    } else {
      state.closed(ended.failure.detail)
      if (ended.failure.isRefused) state.refused(ended.failure)
      yield* Effect.logWarning(`Cannot connect to RabbitMQ: ${ended.failure.detail}`)
    }
    yield* backoff(settings, failures++)
  }
})

/** Uses one connection until it is lost, and gives the reason. */
const session = Effect.fnUntraced(function*(settings: ConnectionSettings, state: State, onOpen: () => void) {
  const notices = yield* Queue.make<Notice>()
  const lost = yield* Deferred.make<string>()
  let problem = "the connection was closed"
  const model = yield* open(settings, (model) => {
    model.on("error", (error) => problem = detailOf(error))
    model.on("blocked", (reason) => Queue.offerUnsafe(notices, { _tag: "Blocked", reason }))
    model.on("unblocked", () => Queue.offerUnsafe(notices, { _tag: "Unblocked" }))
    model.on("close", (error) => {
      const reason = error === undefined ? problem : detailOf(error)
      state.closed(reason)
      Deferred.doneUnsafe(lost, Effect.succeed(reason))
      Queue.offerUnsafe(notices, { _tag: "Lost", reason })
      // A peer that is silent never ends its half of the socket, which would keep the process alive
      destroy(model)
    })
  })
  yield* Effect.logInfo("Connected to RabbitMQ")
  onOpen()
  state.opened({ model, lost, gather: gathering(model) })
  while (true) {
    const notice = yield* Queue.take(notices)
    switch (notice._tag) {
      case "Blocked":
        state.onState("disconnected", `the server has blocked this connection: ${notice.reason}`)
        yield* Effect.logWarning(`RabbitMQ has blocked this connection, publishes wait: ${notice.reason}`)
        break
      case "Unblocked":
        state.onState("connected")
        yield* Effect.logInfo("RabbitMQ has unblocked this connection")
        break
      case "Lost":
        return notice.reason
    }
  }
})

/** A connection that is closed with its scope. `onOpen` is called before anything can happen to it. */
export const open = (
  settings: ConnectionSettings,
  onOpen: (model: ChannelModel) => void
): Effect.Effect<ChannelModel, ConnectFailure, Scope.Scope> =>
  Effect.acquireRelease(connect(settings, onOpen), (model) => close(settings, model), { interruptible: true })

const connect = (
  settings: ConnectionSettings,
  onOpen: (model: ChannelModel) => void
): Effect.Effect<ChannelModel, ConnectFailure> =>
  Effect.callback((resume) => {
    let isAbandoned = false
    const options: Options.Connect = {
      protocol: settings.protocol,
      hostname: settings.hostname,
      port: settings.port,
      username: settings.username,
      password: Redacted.value(settings.password),
      vhost: encodeURIComponent(settings.vhost),
      heartbeat: settings.heartbeat
    }
    amqpConnect(options, {
      ...settings.tls,
      timeout: settings.connectTimeout,
      noDelay: true,
      keepAlive: true,
      clientProperties: { connection_name: settings.connectionName }
    }).then(
      (model) => {
        readUnreadable(model)
        onOpen(model)
        if (isAbandoned) destroy(model)
        else resume(Effect.succeed(model))
      },
      (cause: unknown) => resume(Effect.fail(new ConnectFailure(cause, settings.vhost)))
    )
    return Effect.sync(() => {
      isAbandoned = true
    })
  })

/** In good order within the bound; a lost connection is already closed. */
const close = (settings: ConnectionSettings, model: ChannelModel): Effect.Effect<void> =>
  ask(() => model.close()).pipe(
    Effect.interruptible,
    Effect.timeoutOption(settings.drainTimeout),
    Effect.ignore,
    Effect.andThen(Effect.sync(() => destroy(model)))
  )
