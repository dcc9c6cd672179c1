import { findOwnSource, findSource, startKafka } from "../kafkaServer.ts"
import { shareServer } from "../sharedServer.ts"

/** The address is the list of bootstrap servers, with commas. */
export default shareServer("kafka", async () => {
  const source = findSource()
  if (source.kind === "none") return source
  const own = source.kind === "environment" ? findOwnSource() : source
  const noOwn = own.kind === "java" ? undefined : "tests that stop Kafka need one from its jars: install Java and Maven"
  const { bootstrapServers, dispose } = await startKafka(source)
  return { address: bootstrapServers.join(), noOwn, dispose }
})
