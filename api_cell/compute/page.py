"""Pages for people: one that shows the OpenAPI document and sends requests, and one that says what is here. They load
nothing from elsewhere."""

from __future__ import annotations

PAGE = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Compute API</title><style>
:root{color-scheme:light dark}
body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:1em auto;padding:0 1em}
summary{cursor:pointer;padding:.2em}code,pre,textarea,input{font-family:monospace;font-size:13px}
pre{background:#8882;padding:.6em;overflow:auto;max-height:24em;white-space:pre-wrap}textarea{width:100%;height:7em}
input,pre,code{max-width:100%;overflow-wrap:anywhere}
.m{display:inline-block;width:5em;font-weight:bold}label{margin-right:1em}details details{margin-left:1em}
</style></head><body><h1>Compute API</h1>
<p><label>Microversion <input id="version" size="8" value="latest"></label>
<label>Token <input id="token" size="40" type="password" autocomplete="off"></label>
<label>Find <input id="find" size="20"></label> <a href="openapi.json">openapi.json</a></p>
<div id="paths"></div><script>
const at=id=>document.getElementById(id), make=(tag,text)=>{const e=document.createElement(tag);
if(text!==undefined)e.textContent=text;return e};
let api={paths:{}};
async function load(){const r=await fetch("openapi.json?microversion="+encodeURIComponent(at("version").value));
api=await r.json();if(!r.ok){at("paths").replaceChildren(make("pre",JSON.stringify(api,null,1)));return}show()}
function show(){const all=at("paths"),find=at("find").value.toLowerCase();all.replaceChildren();
for(const [path,methods] of Object.entries(api.paths))for(const [method,op] of Object.entries(methods)){
if(!(path+" "+op.summary+" "+op.description).toLowerCase().includes(find))continue;
const box=make("details"),head=make("summary"),m=make("span",method.toUpperCase());m.className="m";
head.append(m,make("code",path));head.append(" "+op.summary);box.append(head,make("pre",op.description));
box.addEventListener("toggle",()=>{if(box.open&&box.children.length===2)fill(box,path,method,op)});all.append(box)}}
function fill(box,path,method,op){const inputs={};
for(const p of op.parameters){if(p.in==="header")continue;const l=make("label",p.name+" ("+p.in+") "),i=make("input");
inputs[p.name]=[p,i];l.append(i);box.append(l)}
let body=null;if(op.requestBody){const s=op.requestBody.content["application/json"].schema,d=make("details");
d.append(make("summary","Schema of the body"),make("pre",JSON.stringify(s,null,1)));
body=make("textarea");body.value="{}";
box.append(d,body)}
const b=make("button","Send"),out=make("pre","");box.append(b,out);
b.addEventListener("click",async()=>{let url=path;const q=new URLSearchParams();
for(const [name,[p,i]] of Object.entries(inputs)){if(p.in==="path")
url=url.replace("{"+name+"}",encodeURIComponent(i.value));
else if(i.value)q.append(name,i.value)}
const h={"X-Auth-Token":at("token").value,"OpenStack-API-Version":"compute "+api.info.version};
if(body)h["Content-Type"]="application/json";
const r=await fetch("../v2.1"+url+(q.size?"?"+q:""),
{method:method.toUpperCase(),headers:h,body:body?body.value:undefined});
const t=await r.text();let shown=t;try{shown=JSON.stringify(JSON.parse(t),null,1)}catch(e){}
out.textContent=r.status+" "+r.statusText+"\\n"+shown})}
at("version").addEventListener("change",load);at("find").addEventListener("input",show);load();
</script></body></html>
"""

FRONT = b"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Polycell</title><style>
:root{color-scheme:light dark}
body{font:16px/1.6 system-ui,sans-serif;max-width:40em;margin:2em auto;padding:0 1em}code{font-size:14px}
</style></head><body><h1>Polycell</h1>
<p>This is the Compute API of a Polycell cloud. Programs find its versions here, as JSON.</p>
<ul><li><a href="v2.1/docs">The API, to read and try</a></li>
<li><a href="v2.1/openapi.json">Its OpenAPI document</a></li>
<li><a href="healthz">Whether this process lives</a>, <a href="readyz">and what it reaches</a></li></ul>
<p>From a shell: <code>openstack server list</code>, with the account that your operator gave you.</p>
</body></html>
"""
