/** The failure of a client that gets no answer. */
import * as Schema from "effect/Schema"

/**
 * No answer came from a node. Public as `Client.NodeUnavailable`.
 */
export class NodeUnavailable
  extends Schema.TaggedError<NodeUnavailable>("@event-flow/simulation/Client/NodeUnavailable")("NodeUnavailable", {
    node: Schema.String
  })
{
  override get message(): string {
    return `No answer came from node "${this.node}": ask again, as it may or may not have done what was asked`
  }
}
