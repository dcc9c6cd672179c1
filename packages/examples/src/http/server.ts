/**
 * The commands behind the API: each endpoint sends one, its typed errors are the status codes.
 */
import { NodeHttpServer } from "@effect/platform-node"
import { Correlation, type EventFlowError, Mediator } from "@event-flow/core"
import { Effect, Layer } from "effect"
import { SecureRandom } from "effect/crypto"
import { HttpEffect, HttpRouter, HttpServerRequest, HttpServerResponse } from "effect/http"
import { HttpApiBuilder, HttpApiMiddleware, HttpApiScalar } from "effect/http-api"
import { createServer, type IncomingMessage, type ServerResponse } from "node:http"
import { Api, FollowUpFailed, Unavailable } from "./api.ts"
import { FindMeeting, JoinMeeting, MeetingsLive, OpenMeeting } from "./meetings.ts"

const MeetingsApiLive = HttpApiBuilder.group(
  Api,
  "meetings",
  Effect.fn(function*(handlers) {
    return handlers.handleAll({
      open: ({ payload }) => Mediator.send(new OpenMeeting(payload)),
      find: ({ params }) => Mediator.send(new FindMeeting(params)),
      join: ({ params, payload }) =>
        Mediator.send(new JoinMeeting({ ...params, ...payload })).pipe(
          Effect.catchIf(Mediator.isInfrastructureError(JoinMeeting), (error) => Effect.fail(toHttpError(error)))
        )
    })
  })
)

const toHttpError = (error: EventFlowError.EventFlowError): Unavailable | FollowUpFailed => {
  const body = { cause: error._tag, message: error.message }
  return error._tag === "BrokerNotFound" || (error._tag === "PublishError" && error.isRetryable)
    ? new Unavailable(body)
    : new FollowUpFailed(body)
}

const correlationHeader = "x-correlation-id"

/** Takes the correlation id of a request from its header, or makes one, and gives it back with the response. */
const CorrelationLive = HttpRouter.middleware(
  Effect.succeed(Effect.fnUntraced(function*(handle) {
    const { headers } = yield* HttpServerRequest.HttpServerRequest
    const given = headers[correlationHeader]
    const id = given !== undefined && /^[\w.:-]{1,128}$/.test(given) ? given : SecureRandom.uuidV7Unsafe()
    // Errors of the router itself, such as an unknown path, get the header too.
    yield* HttpEffect.appendPreResponseHandler((_request, response) =>
      Effect.succeed(HttpServerResponse.setHeader(response, correlationHeader, id))
    )
    return yield* Correlation.provide(handle, Correlation.make(id))
  })),
  { global: true }
)

const Routes = Layer.mergeAll(
  HttpApiBuilder.layer(Api, { openapiPath: "/openapi.json" }).pipe(
    Layer.provide(MeetingsApiLive),
    Layer.provide(HttpApiMiddleware.layerProblemDetails({ includeDetails: true }))
  ),
  HttpApiScalar.layer(Api, { path: "/docs" }),
  CorrelationLive
)

/** Node waits, when it closes, for connections that clients keep alive: close them after their response. */
const makeServer = () => {
  const server = createServer()
  for (const event of ["request", "checkContinue"]) {
    server.on(event, (_request: IncomingMessage, response: ServerResponse) => {
      response.once("close", () => {
        if (!server.listening) server.closeIdleConnections()
      })
    })
  }
  return server
}

/**
 * The server. When its layer closes it takes no more requests, and waits for those in flight; the flow
 * is below it and closes after it, the broker last.
 */
export const layer = (options: { readonly port: number }) =>
  HttpRouter.serve(Routes).pipe(
    Layer.provide(MeetingsLive),
    Layer.provideMerge(
      NodeHttpServer.layer(makeServer, { port: options.port, gracefulShutdownTimeout: "10 seconds" })
    )
  )
