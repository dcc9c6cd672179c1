import { find, start } from "../postgresServer.ts"
import { shareServer } from "../sharedServer.ts"

export default shareServer("postgres", async () => {
  const found = await find()
  if (found._tag === "None") return found
  const { control, dispose, url } = await start(found)
  return { address: url, isOurs: control !== undefined, dispose }
})
