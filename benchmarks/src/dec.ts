import * as MessageCodec from "@event-flow/core/MessageCodec"
import { NotificationEvent } from "@event-flow/core"
import { isDone } from "../../packages/core/src/internal/isDone.ts"
import { Effect, Exit, Schema } from "effect"
class Measured extends NotificationEvent.Class<Measured>()("Measured", { i: Schema.Number, padding: Schema.String }, { topic: "measured" }) {}
const known = new Map([["Measured", Measured]]) as any
const body = new TextEncoder().encode(JSON.stringify({ i: 12345, padding: "x".repeat(80) }))
const messages = Array.from({ length: 64 }, (_, i) => ({ topic: "measured", key: String(i), attributes: { id: String(i), type: "Measured.v1", source: "s" }, headers: {}, body })) as any
const M = MessageCodec as any
let f: (m: any) => any
if (M.decodesNow !== undefined) { const codec = Effect.runSync(Effect.provide(M.MessageCodec, M.layer)) as any; f = codec[M.decodesNow](known) }
else { const codec = M.cloudEvents(); f = (m) => { const d = codec.decode(m, known); return isDone(d) ? (d as any).value : undefined } }
let n = 0
for (let r = 0; r < 12; r++) { const s = process.cpuUsage(); for (let i = 0; i < 1e6; i++) if (f(messages[i & 63]) !== undefined) n++; const u = process.cpuUsage(s); if (r > 3) process.stdout.write(Math.round((u.user + u.system) / 1000) + " ") }
console.log(n)
