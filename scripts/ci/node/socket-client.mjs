// One socket of the official client, described by the JSON in argv[2]; what happens to it goes to stdout, a line of JSON each.
// Commands come on stdin: {"connect":true}, {"disconnect":true}, {"emit":[event,data]}.
import { createInterface } from "node:readline";
import { io } from "socket.io-client";

const { url, options } = JSON.parse(process.argv[2]);
const say = (event, data) => process.stdout.write(`${JSON.stringify({ event, data })}\n`);

const socket = io(url, options);
let opened;
socket.io.on("open", () => (opened = socket.io.engine.transport.name));
socket.on("connect", () => {
  say("connect", { id: socket.id, opened, transport: socket.io.engine.transport.name });
  socket.io.engine.once("upgrade", (transport) => say("upgrade", transport.name));
});
socket.on("connect_error", (error) => say("connect_error", error.message));
socket.on("disconnect", (reason) => say("disconnect", reason));
socket.onAny((event, ...data) => say(event, data));

const commands = createInterface({ input: process.stdin });
commands.on("line", (line) => {
  const command = JSON.parse(line);
  if (command.connect) socket.connect();
  if (command.disconnect) socket.disconnect();
  if (command.emit) socket.emit(...command.emit);
});
commands.on("close", () => process.exit(0));
