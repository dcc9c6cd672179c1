import { findSource, startKafka } from "../kafkaServer.ts"
import { shareServer } from "../sharedServer.ts"

/** The address is the list of bootstrap servers, with commas. */
export default shareServer("kafka", async () => {
  const source = findSource()
  if (source.kind === "none") return source
  const { bootstrapServers, dispose, isOwned } = await startKafka(source)
  return { address: bootstrapServers.join(), isOurs: isOwned, dispose }
})
