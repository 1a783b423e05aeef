// Prints "N passed, N failed, N skipped" from a test report; fails when nothing ran, or, in CI, when something was skipped.
import { readFileSync } from "node:fs";

const report = JSON.parse(readFileSync(process.argv[2], "utf8"));
const skipped = report.numPendingTests + report.numTodoTests;
// A file that does not even load has no test to count, but it has failed.
const broken = report.testResults.filter(
  (file) => file.status === "failed" && file.assertionResults.length === 0,
).length;
const failed = report.numFailedTests + broken;
if (skipped > 0) console.log(`${skipped} tests were SKIPPED: something they need could not be had here`);
console.log(`${report.numPassedTests} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ""}`);
if (report.numPassedTests === 0 || failed > 0 || (skipped > 0 && process.env.CI === "true")) process.exit(1);
