import { assert, it, vi } from "@effect/vitest"
import { Broker, MemoryBroker } from "@event-flow/core"
import { Effect, Layer } from "effect"
import { HttpServer } from "effect/http"
import { request } from "node:http"
import { AnnouncementsLive } from "../src/http/meetings.ts"
import { layer } from "../src/http/server.ts"
import { start } from "./support.ts"

vi.setConfig({ testTimeout: 180_000 })

const postJson = (url: string, body: unknown, headers: Record<string, string> = {}) =>
  fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json", ...headers },
    body: typeof body === "string" ? body : JSON.stringify(body)
  })

/** Runs against a server of its own, on a free port. */
const withServer = <E>(
  broker: Layer.Layer<Broker.Broker, E>,
  test: (url: string) => Promise<void>
) =>
  Effect.gen(function*() {
    const { address } = yield* HttpServer.HttpServer
    assert(address._tag !== "UnixPathAddress")
    yield* Effect.promise(() => test(`http://localhost:${address.port}`))
  }).pipe(Effect.provide(layer({ port: 0 }).pipe(Layer.provide(broker))))

const failingBroker = (reason: Broker.PublishReason) =>
  Layer.succeed(Broker.Broker)({
    name: "failing",
    publish: ([message]) => Effect.fail(Broker.publishError(message, reason))
  })

const status = async (response: Response) => ({ status: response.status, body: await response.json() })

it.live("http answers with the commands' responses, and their errors as status codes", () =>
  withServer(MemoryBroker.layer(), async (url) => {
    assert.deepStrictEqual(await status(await postJson(`${url}/meetings`, { title: "Effect days", seats: 1 })), {
      status: 201,
      body: { id: "1", title: "Effect days", seats: 1, users: [] }
    })
    const join = (id: string, body: unknown) => postJson(`${url}/meetings/${id}/join`, body)
    assert.deepStrictEqual(await status(await join("1", { user: "Ada" })), { status: 200, body: { seatsLeft: 0 } })
    assert.deepStrictEqual(await status(await join("1", { user: "Grace" })), {
      status: 409,
      body: { _tag: "MeetingFull", meetingId: "1", seats: 1 }
    })
    assert.deepStrictEqual(await status(await join("2", { user: "Grace" })), {
      status: 404,
      body: { _tag: "MeetingNotFound", meetingId: "2" }
    })
    assert.deepStrictEqual(await status(await fetch(`${url}/meetings/1`)), {
      status: 200,
      body: { id: "1", title: "Effect days", seats: 1, users: ["Ada"] }
    })
    // Its error is declared by `Command.failureSchema`
    assert.deepStrictEqual(await status(await fetch(`${url}/meetings/2`)), {
      status: 404,
      body: { _tag: "MeetingNotFound", meetingId: "2" }
    })
    for (const body of [{ user: 7 }, { user: "" }, {}, "{\"us"]) {
      const { body: problem, status: code } = await status(await join("1", body))
      assert.strictEqual(code, 400)
      assert.strictEqual(problem.title, "Bad Request")
      assert.strictEqual(problem.errors[0].path[0], "payload")
    }
    assert.strictEqual((await fetch(`${url}/nothing-here`)).status, 404)
  }))

it.live("http takes the correlation id from the request, or makes one, and returns it", () =>
  withServer(MemoryBroker.layer(), async (url) => {
    const id = async (headers: Record<string, string>, path = "/meetings/1") =>
      (await fetch(url + path, { headers })).headers.get("x-correlation-id")
    assert.strictEqual(await id({ "x-correlation-id": "order-7" }), "order-7")
    assert.strictEqual(await id({ "x-correlation-id": "order-7" }, "/nothing-here"), "order-7")
    assert.match(await id({}) ?? "", /^[0-9a-f-]{36}$/)
    assert.match(await id({ "x-correlation-id": "no <good>" }) ?? "", /^[0-9a-f-]{36}$/)
  }))

it.live("http serves its documentation without a network", () =>
  withServer(MemoryBroker.layer(), async (url) => {
    const openApi = await (await fetch(`${url}/openapi.json`)).json()
    const join = openApi.paths["/meetings/{meetingId}/join"].post
    assert.deepStrictEqual(Object.keys(join.responses), ["200", "400", "404", "409", "500", "502", "503"])
    const docs = await (await fetch(`${url}/docs`)).text()
    assert.notMatch(docs, /<script[^>]+src=/)
  }))

for (
  const { broker, cause, code, name } of [
    { name: "no broker", broker: Broker.layerNone, code: 503, cause: "BrokerNotFound" },
    {
      name: "an unreachable broker",
      broker: failingBroker(new Broker.Unreachable({ detail: "connection refused" })),
      code: 503,
      cause: "PublishError"
    },
    {
      name: "a broker that refuses",
      broker: failingBroker(new Broker.NotAuthorised({ detail: "no access to the topic" })),
      code: 502,
      cause: "PublishError"
    }
  ]
) {
  it.live(`http answers ${code} with the reason for ${name}`, () =>
    withServer(broker, async (url) => {
      await postJson(`${url}/meetings`, { title: "Effect days", seats: 1 })
      const { body, status: actual } = await status(await postJson(`${url}/meetings/1/join`, { user: "Ada" }))
      assert.strictEqual(actual, code)
      assert.strictEqual(body.cause, cause)
      assert.include(body.message, "SeatTaken.v1")
    }))
}

it.live("http announces through the broker under the correlation id of the request", () =>
  Effect.gen(function*() {
    const { address } = yield* HttpServer.HttpServer
    assert(address._tag !== "UnixPathAddress")
    const url = `http://localhost:${address.port}/meetings`
    yield* Effect.promise(() => postJson(url, { title: "Effect days", seats: 3 }))
    yield* Effect.promise(() => postJson(`${url}/1/join`, { user: "Ada" }, { "x-correlation-id": "order-8" }))
    const broker = yield* MemoryBroker.MemoryBroker
    const [message] = yield* broker.messages("meetings")
    assert.strictEqual(message?.attributes["correlationid"], "order-8")
    // The announcement has been consumed.
    yield* broker.awaitIdle
  }).pipe(Effect.provide(
    Layer.merge(layer({ port: 0 }), AnnouncementsLive).pipe(Layer.provideMerge(MemoryBroker.layer()))
  )))

it("http finishes a request in flight on SIGTERM, and takes no new ones", async () => {
  const server = start("http/main.ts", [], { PORT: "0" })
  const [, port] = await server.printed(/Listening on http:\/\/\S+:(\d+)/)
  const url = `http://localhost:${port}`
  await postJson(`${url}/meetings`, { title: "Effect days", seats: 3 }, { connection: "close" })

  // A slow request: the server has begun it and waits for its body.
  const body = JSON.stringify({ user: "Ada" })
  const slow = request(`${url}/meetings/1/join`, {
    method: "POST",
    headers: { "content-type": "application/json", "content-length": body.length, expect: "100-continue" }
  })
  const answer = new Promise<{ status: number | undefined; text: string }>((resolve, reject) => {
    slow.on("error", reject)
    slow.on("response", async (response) => {
      let text = ""
      for await (const chunk of response) text += chunk
      resolve({ status: response.statusCode, text })
    })
  })
  await new Promise<void>((resolve) => {
    slow.on("continue", resolve)
    slow.flushHeaders()
  })

  server.kill("SIGTERM")
  await server.printed(/Stopping: waiting for the requests in flight/)
  const refused = await fetch(`${url}/meetings/1`).then(() => false, () => true)
  slow.end(body)
  assert.deepStrictEqual(await answer, { status: 200, text: "{\"seatsLeft\":2}" })
  assert.isTrue(refused, "a new connection was accepted")
  const { code, stdout } = await server.ended
  assert.strictEqual(code, 0)
  assert.include(stdout, "Welcome, Ada")
})
