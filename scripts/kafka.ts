/**
 * `npm run kafka`: a throw-away Apache Kafka for a developer. Prints its address and ends with Ctrl-C.
 */
import { findSource, startKafka } from "@event-flow/test-support/kafkaServer"

const source = findSource()
if (source.kind === "none") {
  console.error(source.reason)
  process.exit(1)
}
if (source.kind === "environment") {
  console.log(`KAFKA_BOOTSTRAP_SERVERS is set already: ${source.bootstrapServers.join(",")}`)
  process.exit(0)
}
console.log("starting Kafka ...")
const server = await startKafka(source, {
  properties: { "auto.create.topics.enable": "true", "num.partitions": "4" }
})
console.log(`KAFKA_BOOTSTRAP_SERVERS=${server.bootstrapServers.join(",")}`)
console.log("Ctrl-C ends it and removes its data")

const end = () => {
  void server.dispose().then(() => process.exit(0))
}
process.once("SIGINT", end)
process.once("SIGTERM", end)
