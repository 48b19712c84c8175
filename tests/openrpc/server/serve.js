// An OpenRPC server of the document that is named by the first argument, on a free port of loopback. It checks the params of each
// call against the document. The port is the first line that it prints; it ends with its standard input.
const fs = require("fs");
const { parseOpenRPCDocument } = require("@open-rpc/schema-utils-js");
const { Server } = require("@open-rpc/server-js");
const { JSONRPCError } = require("@open-rpc/server-js/build/error");

const text = fs.readFileSync(process.argv[2], "utf8");
const books = [
  { title: "Die Verwandlung", authors: [{ name: "Franz Kafka", born: "1883-07-03" }], language: "de", year: 1915, "x-rating": 4.5 },
  { title: "Beowulf", authors: [], year: null },
];
const loan = { at: "2024-05-01T10:00:00Z", copy: 7, due: "2024-05-29" };
let rung = 0;

const methods = {
  "catalogue.search": async (words, filter, limit, mark) =>
    words.includes("echo") ? [{ title: JSON.stringify({ filter, limit, mark }), authors: [] }] : books.slice(0, limit),
  "catalogue.subjects": async () => ({ name: "all", narrower: ["prose"] }),
  "loans.borrow": async (reader, copy, days) => {
    if (copy === 404) throw new JSONRPCError("The copy is not on its shelf", 4404, { place: "bindery", since: "2024-01-31T08:00:00Z" });
    if (copy === 11) throw new JSONRPCError("The reader owes a fee", -32011, { cents: 250 });
    return { ...loan, copy, due: days === 1 ? "2024-05-02" : loan.due };
  },
  "loans.list": async () => ({ first: loan }),
  "loans.find": async (reader, state) => (state === "late" ? null : loan),
  "desk.return": async (item) => null,
  "desk.ring": async (times) => { rung += times === undefined ? 1 : times; },
  "desk.rung": async () => rung,
};

parseOpenRPCDocument(text).then((document) => {
  const server = new Server({ openrpcDocument: document, methodMapping: methods });
  server.addDefaultTransport("HTTPTransport", { port: { port: 0, host: "127.0.0.1" }, middleware: [] });
  return server.start().then(() => console.log(`port ${server.transports[0].server.address().port}`));
}).catch((problem) => { console.error(problem); process.exit(1); });

process.stdin.on("end", () => process.exit(0)).resume();
