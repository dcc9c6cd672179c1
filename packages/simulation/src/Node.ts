/**
 * The nodes of a simulated system: the program's own layers.
 *
 * @stability unstable
 * @since 0.1.0
 */
import type * as Broker from "@event-flow/core/Broker"
import type * as Subscriber from "@event-flow/core/Subscriber"
import type * as Layer from "effect/Layer"
import type { Store } from "./Store.ts"

/**
 * What every node finds outside of itself: the broker, by its two ports, and the
 * store. Both outlive every node.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Outside = Broker.Broker | Subscriber.Subscriber | Store

/**
 * A node: the layer of a program, which runs in one process or in several.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export interface Node {
  readonly layer: Layer.Any
  /** How many processes run it. Default: 1. */
  readonly instances?: number | undefined
}

/**
 * Nodes by their names, each as its layer alone or with the number of its instances.
 *
 * @stability unstable
 * @category models
 * @since 0.1.0
 */
export type Nodes = Readonly<Record<string, Layer.Any | Node>>

/**
 * The services of a node.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type ServicesOf<N> = N extends Layer.Any ? Layer.Success<N>
  : N extends { readonly layer: infer L extends Layer.Any } ? Layer.Success<L>
  : never

/**
 * What the layers of nodes need beside what is outside of every node.
 *
 * @stability unstable
 * @category utility types
 * @since 0.1.0
 */
export type UnmetBy<N extends Nodes> = Exclude<RequirementsOf<N[keyof N]>, Outside>

type RequirementsOf<N> = N extends Layer.Any ? Layer.Services<N>
  : N extends { readonly layer: infer L extends Layer.Any } ? Layer.Services<L>
  : never
