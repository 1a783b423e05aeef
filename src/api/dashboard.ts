import { createHash } from "node:crypto";

/*
 * One page without a build and without a request to anybody else: it asks /api/status and /api/channels once a second.
 * Whatever comes from there is set as text, never as HTML: file names are other people's.
 */

const STYLE = `
:root{color-scheme:light dark;--line:color-mix(in srgb,currentColor 15%,transparent);--bar:#2f7dd1;--warn:#c77700;--bad:#c62828;--good:#2e7d32}
body{font:14px/1.45 system-ui,sans-serif;margin:0;padding:1.2rem;max-width:76rem;margin-inline:auto}
h1{font-size:1.2rem;margin:0 0 1rem;display:flex;gap:.7rem;align-items:baseline}
h2{font-size:.8rem;letter-spacing:.06em;text-transform:uppercase;margin:1.6rem 0 .4rem;opacity:.7}
#state{font-size:.8rem;font-weight:600;padding:.1rem .5rem;border-radius:1rem;color:#fff;background:#777}
#state.up{background:var(--good)}#state.down{background:var(--bad)}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.7rem}
.tile{border:1px solid var(--line);border-radius:.5rem;padding:.6rem .8rem}
.tile b{display:block;font-size:1.35rem;font-variant-numeric:tabular-nums}
.tile span{opacity:.7}
table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem .25rem 0;border-bottom:1px solid var(--line)}
th{font-weight:500;opacity:.7}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}
meter{width:8rem;height:.9rem;vertical-align:middle}
.bad{color:var(--bad)}.wide{overflow-x:auto}
svg{width:100%;height:4rem;display:block;margin-top:.7rem}
polyline{fill:none;stroke:var(--bar);stroke-width:2;vector-effect:non-scaling-stroke}
`;

const SCRIPT = `
const $=(id)=>document.getElementById(id);
const count=(n)=>n==null?"-":Math.round(n).toLocaleString("en");
const bytes=(n)=>{const u=["B","KiB","MiB","GiB","TiB"];let i=0;while(n>=1024&&i<4){n/=1024;i++}return(i?n.toFixed(1):Math.round(n))+" "+u[i]};
const cells=(row)=>{const tr=document.createElement("tr");for(const [text,kind] of row){const td=document.createElement("td");
if(kind==="meter"){const m=document.createElement("meter");m.max=100;m.high=80;m.value=text;td.append(m," "+Math.round(text)+" %")}
else{td.textContent=text;if(kind)td.className=kind}tr.append(td)}return tr};
const fill=(id,rows)=>{const body=$(id);body.replaceChildren(...rows.map(cells));body.closest("section").hidden=rows.length===0};
let before,beforeAt=0;const rates=[];
async function get(path){const answer=await fetch(path,{cache:"no-store"});if(!answer.ok&&answer.status!==503)throw new Error(path+": "+answer.status);return[answer.ok,await answer.json()]}
async function look(){
try{
const [[isReady,ready],[isUp,status],[,channels]]=await Promise.all([get("/ready"),get("/api/status"),get("/api/channels")]);
const now=performance.now(),seconds=(now-beforeAt)/1000;
$("state").textContent=isReady?"ready":(ready.not_ready||[]).map((c)=>c.component+": "+c.reason).join("; ")||"not ready";
$("state").className=isReady?"up":"down";
if(!isUp)return;
const rate=(name)=>before?Math.max(0,(status[name]-before[name])/seconds):0;
$("read").textContent=count(rate("records"))+" /s";$("bytes").textContent=bytes(rate("bytes"))+"/s";
$("acknowledged").textContent=count(rate("acknowledged"))+" /s";$("lag").textContent=bytes(status.lagBytes);
$("files").textContent=count(status.files);$("letters").textContent=count(status.deadLetters);
$("total").textContent=count(status.records);
$("commit").textContent=status.lastCommitAgoMs==null?"none yet":(status.lastCommitAgoMs/1000).toFixed(1)+" s ago";
if(before){rates.push(rate("records"));if(rates.length>120)rates.shift();const top=Math.max(1,...rates);
$("line").setAttribute("points",rates.map((r,i)=>i*100/119+","+(39-38*r/top)).join(" "))}
before=status;beforeAt=now;
fill("sinks",status.sinks.map((s)=>[[s.name],[count(s.acknowledged),"n"],[count(s.errors),"n"],[count(s.dead_letters),"n"],[s.trouble||"up",s.trouble?"bad":""]]));
fill("sources",status.sources.map((s)=>[[s.name],[count(s.records),"n"],[bytes(s.bytes),"n"],[count(s.files),"n"],[bytes(s.lag_bytes),"n"]]));
fill("channels",channels.map((c)=>[[c.component+"/"+c.channel],[c.usage_percent,"meter"],[count(c.messages)+" / "+count(c.capacity),"n"],[count(c.records?c.records.sent:c.sent),"n"],[count(c.records?c.records.dropped:c.dropped),"n"],[c.overflow]]));
}catch(error){$("state").textContent="no answer";$("state").className="down"}
}
look();setInterval(()=>{if(!document.hidden)look()},1000);
`;

const hash = (text: string): string => `'sha256-${createHash("sha256").update(text).digest("base64")}'`;

/** For the page's `Content-Security-Policy`: its own script and style, and requests to where it came from. */
export const DASHBOARD_POLICY = `default-src 'none'; script-src ${hash(SCRIPT)}; style-src ${hash(STYLE)}; connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'`;

const tile = (id: string, label: string): string => `<div class="tile"><b id="${id}">-</b><span>${label}</span></div>`;

const section = (id: string, title: string, heading: string): string =>
  `<section hidden><h2>${title}</h2><div class="wide"><table><thead><tr>${heading}</tr></thead><tbody id="${id}"></tbody></table></div></section>`;

const th = (...names: readonly string[]): string =>
  names.map((name) => (name.startsWith("#") ? `<th class="n">${name.slice(1)}</th>` : `<th>${name}</th>`)).join("");

export const DASHBOARD = `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width,initial-scale=1">
<title>Tailrace</title><link rel="icon" href="data:,"><style>${STYLE}</style></head><body>
<h1>Tailrace <span id="state">...</span></h1>
<div class="tiles">${[
  tile("read", "records read"),
  tile("bytes", "bytes read"),
  tile("acknowledged", "records acknowledged"),
  tile("lag", "lag"),
  tile("files", "files"),
  tile("total", "records since the start"),
  tile("letters", "dead letters"),
  tile("commit", "last commit"),
].join("")}</div>
<svg viewBox="0 0 100 40" preserveAspectRatio="none" role="img" aria-label="records read per second, last two minutes"><polyline id="line"/></svg>
${section("sinks", "Sinks", th("sink", "#acknowledged", "#errors", "#dead letters", "state"))}
${section("sources", "Sources", th("source", "#records", "#bytes", "#files", "#lag"))}
${section("channels", "Channels", th("channel", "fill", "#messages", "#sent", "#dropped", "overflow"))}
<script>${SCRIPT}</script></body></html>
`;
