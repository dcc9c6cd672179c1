/** Records of foreign names; see `BrokerLayer.emptyRecord`. */

/** Its objects have names of their own and no others, and are as quick as any: one made by `Object.create(null)` is not. */
const Bare = function() {} as unknown as new() => object
Bare.prototype = Object.create(null)

export const emptyRecord = <A>(): Record<string, A> => new Bare() as Record<string, A>
