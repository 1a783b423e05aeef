import { describe, expect, it } from "vitest";
import { type Directive, parseLogrotate } from "./logrotate-language.ts";

function patternsOf(text: string): string[][] {
  return parseLogrotate(text).flatMap((statement) => (statement.kind === "block" ? [[...statement.patterns]] : []));
}

function directivesOf(text: string): string[] {
  const all = parseLogrotate(text).flatMap((statement): readonly Directive[] =>
    statement.kind === "block" ? statement.directives : [statement],
  );
  return all.map(({ name, value, line }) => `${line}: ${name}${value === "" ? "" : ` ${value}`}`);
}

describe("parseLogrotate", () => {
  it("reads the manual's own example", () => {
    const text = `# sample logrotate configuration file
compress

/var/log/messages {
    rotate 5
    weekly
    postrotate
        /usr/bin/killall -HUP syslogd
    endscript
}

"/var/log/httpd/access.log" /var/log/httpd/error.log {
    rotate 5
    mail recipient@example.org
    size 100k
    sharedscripts
    postrotate
        /usr/bin/killall -HUP httpd
    endscript
}

/var/log/news/* {
    monthly
    rotate 2
    olddir /var/log/news/old
    missingok
    sharedscripts
    postrotate
        kill -HUP $(cat /var/run/inn.pid)
    endscript
    nocompress
}

~/log/*.log {}
`;
    expect(patternsOf(text)).toEqual([
      ["/var/log/messages"],
      ["/var/log/httpd/access.log", "/var/log/httpd/error.log"],
      ["/var/log/news/*"],
      ["~/log/*.log"],
    ]);
    expect(directivesOf(text)).toEqual([
      "2: compress",
      "5: rotate 5",
      "6: weekly",
      "13: rotate 5",
      "14: mail recipient@example.org",
      "15: size 100k",
      "16: sharedscripts",
      "23: monthly",
      "24: rotate 2",
      "25: olddir /var/log/news/old",
      "26: missingok",
      "27: sharedscripts",
      "31: nocompress",
    ]);
  });

  it("takes patterns on several lines, with comments between them, and a brace anywhere behind them", () => {
    expect(patternsOf("/a\n  # of { the\n  /b /c\n{\n}\n/d{\n}\n")).toEqual([["/a", "/b", "/c"], ["/d"]]);
  });

  it("parts and unquotes patterns as a shell does", () => {
    expect(patternsOf(`"/a b/*.log" '/c'd /e\\ f /g\\*h "/i\\"j" {\n}\n`)).toEqual([
      ["/a b/*.log", "/cd", "/e f", "/g*h", '/i"j'],
    ]);
  });

  it("does not look into scripts, whatever they hold", () => {
    const text = "/a {\nprerotate\n echo }\n olddir x\n /b {\n endscripts\n endscript # done\n olddir y\n}\n";
    expect(directivesOf(text)).toEqual(["8: olddir y"]);
    expect(patternsOf(text)).toEqual([["/a"]]);
  });

  it("parts a value by blanks, one `=`, or both", () => {
    expect(directivesOf("olddir=a\nolddir = b\nolddir\tc  \nolddir  d\r\n")).toEqual([
      "1: olddir a",
      "2: olddir b",
      "3: olddir c",
      "4: olddir d",
    ]);
  });

  it("keeps quotes of values, as logrotate does", () => {
    expect(directivesOf('dateformat "-%Y"\n')).toEqual(['1: dateformat "-%Y"']);
  });

  it("finds the brace behind directives without a value, and further directives on the line", () => {
    expect(directivesOf("/a { missingok }\n/b { compress }\n/c { dateext dateformat -%Y\n}\n")).toEqual([
      "1: missingok",
      "2: compress",
      "3: dateext",
      "3: dateformat -%Y",
    ]);
    expect(patternsOf("/a { missingok }\n/b { compress }\n/c { }\n")).toEqual([["/a"], ["/b"], ["/c"]]);
  });

  it("does not take a word for a directive that something else follows at once", () => {
    expect(directivesOf("olddir: a\nolddir2 b\nolddir-c\n")).toEqual([]);
  });

  it.each([
    "/a",
    "/a {",
    "/a {\n olddir",
    "}",
    "{",
    '"',
    "/a {\nprerotate\n",
    "\\",
    "~",
    "=",
    "#",
    "",
    "\n\n",
    "/a\n#",
  ])("makes nothing of what is cut off: %j", (text) => {
    expect(patternsOf(text)).toEqual([]);
  });

  it("goes on behind what it does not know", () => {
    expect(directivesOf("*** what?\n{ }\n}\nolddir a\n")).toEqual(["4: olddir a"]);
  });
});
