import { find, start } from "../rabbitServer.ts"
import { shareServer } from "../sharedServer.ts"

export default shareServer("rabbitmq", async () => {
  const found = await find()
  if (found._tag === "None") return found
  const { control, dispose, url } = await start(found)
  const noOwn = control === undefined ? "the server of RABBITMQ_URL is not ours to stop: unset RABBITMQ_URL" : undefined
  return { address: url, noOwn, dispose }
})
