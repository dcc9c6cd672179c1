import { shareRabbitmq } from "../shareRabbitmq.ts"

export default shareRabbitmq("any")
