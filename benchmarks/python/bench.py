"""python-cqrs as a subject of the benchmarks, over JSON lines on standard input and output.

The fastest set-up that the package allows: dataclasses in the place of pydantic models where they are faster, a
container that only calls the class, no logging middleware (which `bootstrap` adds) and no debug records, events one
at a time except in W4.
"""

import asyncio
import dataclasses
import importlib.metadata
import json
import logging
import platform
import sys
import time

import orjson

import cqrs
from cqrs.events import DCDomainEvent, EventEmitter, EventHandler, EventMap, NotificationEvent
from cqrs.message_brokers.protocol import Message, MessageBroker
from cqrs.requests.map import RequestMap
from cqrs.requests.request import DCRequest
from cqrs.requests.request_handler import RequestHandler
from cqrs.response import DCResponse

# The package turns its own logger to DEBUG: a record for every handler, which nobody would keep on in production.
logging.getLogger("cqrs").setLevel(logging.WARNING)

config = json.loads(sys.stdin.readline())
MEETING_ID = config["meetingId"]
USER_ID = config["userId"]
FAN_OUT = config["fanOut"]
DEPTH = config["depth"]


class Tally:
    __slots__ = ("commands", "handlers", "seats", "answers", "messages", "bytes")

    def __init__(self):
        for name in self.__slots__:
            setattr(self, name, 0)


tally = Tally()


def reset():
    for name in Tally.__slots__:
        setattr(tally, name, 0)


@dataclasses.dataclass
class JoinMeeting(DCRequest):
    meeting_id: str
    user_id: str
    seat: int


@dataclasses.dataclass
class Joined(DCResponse):
    seat: int


@dataclasses.dataclass(frozen=True)
class UserJoined(DCDomainEvent):
    meeting_id: str
    user_id: str
    seat: int


@dataclasses.dataclass(frozen=True)
class StepTaken(DCDomainEvent):
    meeting_id: str
    user_id: str
    seat: int
    depth: int


# The one pydantic model here: `to_dict` of the dataclass kind takes longer than the whole of it.
UserJoinedAbroad = NotificationEvent[dict]


class Join(RequestHandler[JoinMeeting, Joined]):
    async def handle(self, request):
        tally.commands += 1
        return Joined(request.seat)


class Emitting(RequestHandler[JoinMeeting, Joined]):
    def __init__(self):
        self._events = []

    @property
    def events(self):
        return self._events


class JoinOne(Emitting):
    async def handle(self, request):
        tally.commands += 1
        self._events.append(UserJoined(request.meeting_id, request.user_id, request.seat))
        return Joined(request.seat)


class JoinMany(Emitting):
    async def handle(self, request):
        tally.commands += 1
        for _ in range(FAN_OUT):
            self._events.append(UserJoined(request.meeting_id, request.user_id, request.seat))
        return Joined(request.seat)


class JoinStep(Emitting):
    async def handle(self, request):
        tally.commands += 1
        self._events.append(StepTaken(request.meeting_id, request.user_id, request.seat, 1))
        return Joined(request.seat)


class JoinAbroad(Emitting):
    async def handle(self, request):
        tally.commands += 1
        payload = {"meetingId": request.meeting_id, "userId": request.user_id, "seat": request.seat}
        self._events.append(UserJoinedAbroad(event_name="UserJoined", payload=payload))
        return Joined(request.seat)


def on_joined():
    class OnJoined(EventHandler[UserJoined]):
        async def handle(self, event):
            tally.handlers += 1
            tally.seats += event.seat

    return OnJoined


def on_joined_slowly():
    class OnJoinedSlowly(EventHandler[UserJoined]):
        async def handle(self, event):
            tally.handlers += 1
            tally.seats += event.seat
            await asyncio.sleep(0.001)

    return OnJoinedSlowly


class OnStep(EventHandler[StepTaken]):
    def __init__(self):
        self._events = ()

    @property
    def events(self):
        return self._events

    async def handle(self, event):
        tally.handlers += 1
        tally.seats += event.seat
        if event.depth < DEPTH:
            self._events = (StepTaken(event.meeting_id, event.user_id, event.seat, event.depth + 1),)


class Container:
    external_container = None

    def attach_external_container(self, container):
        pass

    async def resolve(self, type_):
        return type_()


class Nothing(MessageBroker):
    async def send_message(self, message: Message):
        tally.messages += 1
        tally.bytes += len(orjson.dumps(message.payload))


def mediator(command_handler, handlers, at_once=1):
    requests = RequestMap()
    requests.bind(JoinMeeting, command_handler)
    events = EventMap()
    for event, handler in handlers:
        events.bind(event, handler)
    container = Container()
    return cqrs.RequestMediator(
        request_map=requests,
        container=container,
        event_emitter=EventEmitter(events, container, Nothing()),
        event_map=events,
        max_concurrent_event_handlers=at_once,
        concurrent_event_handle_enable=at_once > 1,
    )


mediators = {
    "W1": mediator(Join, []),
    "W2": mediator(JoinOne, [(UserJoined, on_joined())]),
    "W3": mediator(JoinMany, [(UserJoined, on_joined()) for _ in range(3)]),
    "W4": mediator(JoinMany, [(UserJoined, on_joined_slowly()) for _ in range(3)], at_once=FAN_OUT),
    "W5": mediator(JoinStep, [(StepTaken, OnStep)]),
    "W6": mediator(JoinAbroad, []),
}


async def sample(send, units):
    start = time.perf_counter_ns()
    for unit in range(units):
        response = await send(JoinMeeting(MEETING_ID, USER_ID, unit % 1000))
        tally.answers += response.seat
    return time.perf_counter_ns() - start


def say(value):
    sys.stdout.write(json.dumps(value) + "\n")
    sys.stdout.flush()


async def main():
    version = importlib.metadata.version("python-cqrs")
    say({"ready": True, "python": platform.python_version(), "packages": [f"python-cqrs@{version}"]})
    # Reading blocks the loop, which has nothing to do between samples.
    for line in sys.stdin:
        question = json.loads(line)
        reset()
        ns = await sample(mediators[question["workload"]].send, question["units"])
        say({"ns": ns, "tally": {name: getattr(tally, name) for name in Tally.__slots__}})


asyncio.run(main())
