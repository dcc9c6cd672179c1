/**
 * The services that the layer of a handler gives to its handler.
 */
import * as Context from "effect/Context"

type AnyContext = Context.Context<never>

/**
 * They are added to the context of whoever calls the handler, and win over what
 * is there under the same key (F17). Everything else in a handler's context is
 * its caller's: nothing of whoever built the layer is in it.
 */
export class GivenServices {
  static readonly none: GivenServices = new GivenServices([])

  /** The services under `keys`, as this context has them. */
  static from(keys: ReadonlyArray<Context.Key<unknown, unknown>>, context: AnyContext): GivenServices {
    if (keys.length === 0) return GivenServices.none
    // The types of `toLayer` require each of them
    return new GivenServices(keys.map(({ key }) => [key, Context.getUnsafe(context, Context.Service<never>(key))]))
  }

  readonly #services: ReadonlyArray<readonly [key: string, service: unknown]>
  // Callers mostly come with the same context again
  #caller: AnyContext | undefined = undefined
  #joined: AnyContext = Context.empty()

  constructor(services: ReadonlyArray<readonly [key: string, service: unknown]>) {
    this.#services = services
  }

  and(key: string, service: unknown): GivenServices {
    return new GivenServices([...this.#services, [key, service]])
  }

  /** The context of a caller with these services in it; the caller's own context when there are none. */
  joinedTo(caller: AnyContext): AnyContext {
    if (this.#services.length === 0) return caller
    if (this.#caller !== caller) {
      let joined = caller
      for (const [key, service] of this.#services) joined = Context.addUnsafe(joined, key, service)
      this.#joined = joined
      this.#caller = caller
    }
    return this.#joined
  }
}
