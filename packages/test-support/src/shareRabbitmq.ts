/** The RabbitMQ server that all tests of a project share. */
import { find, start, type Version } from "./rabbitServer.ts"
import { shareServer } from "./sharedServer.ts"

export const shareRabbitmq = (version: Version) =>
  shareServer("rabbitmq", async () => {
    const found = await find(version)
    if (found._tag === "None") return found
    const { control, dispose, url } = await start(found)
    const noOwn = control === undefined
      ? "the server of RABBITMQ_URL is not ours to stop: unset RABBITMQ_URL"
      : undefined
    return { address: url, noOwn, dispose }
  }, version)
