/** What a node of a flow is called. */
export const kindOf = (
  node: { readonly _tag: "Command" | "DomainEvent" | "NotificationEvent" | "Handler" }
): "command" | "event" | "handler" =>
  node._tag === "Command" ? "command" : node._tag === "Handler" ? "handler" : "event"
