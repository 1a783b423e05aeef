import { defineConfig } from "tailrace";

/** Fields that are nobody else's business. */
const SECRET = /^(?:password|token|authorization)$/i;

export default defineConfig({
  sources: { app: { type: "file", include: ["/var/log/app/*.log"] } },
  transforms: {
    parse: { type: "json", inputs: ["app"] },
    mask: {
      type: "map",
      inputs: ["parse"],
      function(event) {
        for (const name of Object.keys(event)) if (SECRET.test(name)) event[name] = "***";
        return event;
      },
    },
  },
  sinks: { out: { type: "file", inputs: ["mask"], path: "app.ndjson" } },
});
