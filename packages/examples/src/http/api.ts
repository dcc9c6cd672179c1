/**
 * The HTTP API: payloads, responses and errors are those of the commands.
 */
import { Command } from "@event-flow/core"
import { Schema } from "effect"
import { HttpApi, HttpApiEndpoint, HttpApiGroup, HttpApiMiddleware, HttpApiSchema, OpenApi } from "effect/http-api"
import { FindMeeting, JoinMeeting, Meeting, OpenMeeting } from "./meetings.ts"

/** The command has taken effect. Its events failed, in a way that may pass by itself. */
export class Unavailable extends Schema.TaggedError<Unavailable>()(
  "Unavailable",
  { cause: Schema.String, message: Schema.String },
  { httpApiStatus: 503 }
) {}

/** The command has taken effect. Its events failed, in a way that will not pass by itself. */
export class FollowUpFailed extends Schema.TaggedError<FollowUpFailed>()(
  "FollowUpFailed",
  { cause: Schema.String, message: Schema.String },
  { httpApiStatus: 502 }
) {}

const { meetingId, user } = JoinMeeting.payload

// `failureSchema` is everything that sending a command can fail with: what a middleware adds will be in the API, too.
export class MeetingsApi extends HttpApiGroup.make("meetings")
  .add(
    HttpApiEndpoint.post("open", "/", {
      payload: Schema.Struct(OpenMeeting.payload),
      success: Meeting.pipe(HttpApiSchema.status(201)),
      error: Command.failureSchema(OpenMeeting).members
    }),
    HttpApiEndpoint.get("find", "/:meetingId", {
      params: FindMeeting.payload,
      success: FindMeeting.successSchema,
      error: Command.failureSchema(FindMeeting).members
    }),
    HttpApiEndpoint.post("join", "/:meetingId/join", {
      params: { meetingId },
      payload: Schema.Struct({ user }),
      success: JoinMeeting.successSchema,
      // Its own errors; clients see those of its events as one of the two above
      error: [...JoinMeeting.errorSchema.members, Unavailable, FollowUpFailed]
    })
  )
  .prefix("/meetings")
{}

export class Api extends HttpApi.make("meetings-api")
  .add(MeetingsApi)
  // A request that cannot be decoded: 400, with what is wrong as RFC 9457 problem details.
  .middleware(HttpApiMiddleware.ProblemDetails)
  .annotateMerge(OpenApi.annotations({ title: "Meetings" }))
{}
