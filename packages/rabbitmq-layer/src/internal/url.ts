/** The address of a server. */
import * as Redacted from "effect/Redacted"

export interface Address {
  readonly protocol: "amqp" | "amqps"
  readonly hostname: string
  readonly port: number
  readonly username: string
  readonly password: Redacted.Redacted
  readonly vhost: string
}

/** The parts of a URL, or what is wrong with it. The text is a secret: what is wrong does not quote it. */
export const parse = (text: string): Address | string => {
  if (!URL.canParse(text)) return "it is no URL: amqp://user:password@host:port/vhost"
  const url = new URL(text)
  const protocol = url.protocol === "amqp:" ? "amqp" : url.protocol === "amqps:" ? "amqps" : undefined
  if (protocol === undefined) return "it must begin with amqp: or amqps:"
  if (url.hostname === "") return "it names no host"
  const [username, password, vhost] = [url.username, url.password, url.pathname.slice(1)].map(decode)
  if (username === undefined || password === undefined || vhost === undefined) {
    return "a part of it is not percent-encoded"
  }
  const isAnonymous = username === "" && password === ""
  return {
    protocol,
    hostname: url.hostname.replace(/^\[|\]$/g, ""),
    port: url.port === "" ? (protocol === "amqp" ? 5672 : 5671) : Number(url.port),
    username: isAnonymous ? "guest" : username,
    password: Redacted.make(isAnonymous ? "guest" : password),
    // No path is the default virtual host. By the URI scheme "/" is one without a name, which nobody means
    vhost: vhost === "" ? "/" : vhost
  }
}

const decode = (part: string): string | undefined => {
  try {
    return decodeURIComponent(part)
  } catch {
    return undefined
  }
}
