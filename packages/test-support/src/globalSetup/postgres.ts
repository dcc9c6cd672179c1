import { find, start } from "../postgresServer.ts"
import { shareServer } from "../sharedServer.ts"

export default shareServer("postgres", async () => {
  const found = await find()
  if (found._tag === "None") return found
  const { control, dispose, url } = await start(found)
  const noOwn = control === undefined ? "the server of DATABASE_URL is not ours to stop: unset DATABASE_URL" : undefined
  return { address: url, noOwn, dispose }
})
