/* page.h - the page around its forms: style, totals, figures, forms without pictures, script. */
#ifndef TALLY_READ_PAGE_H
#define TALLY_READ_PAGE_H

#include <string.h>

#include "../json.h"
#include "figures.h"
#include "html.h"
#include "page_form.h"
#include "report.h"

/* Colours are named once for light and once for dark; everything else refers to them. */
static const char *const page_style[] = {
    ":root{color-scheme:light dark;--paper:#fbfaf8;--card:#fff;--text:#1d2126;--faint:#68707a;",
    "--line:#dcdad5;--grid:#e8e6e1;--ok:#2c7a51;--look:#b3590f;--unread:#a8322a;--mark:#2a5d9f;",
    "--soft:#eef3f9;--looksoft:#fbf1e4}\n",
    "@media(prefers-color-scheme:dark){:root{--paper:#15181c;--card:#1c2025;--text:#e4e6e9;",
    "--faint:#98a1ab;--line:#343a42;--grid:#2a2f36;--ok:#62bd8c;--look:#e59a4f;--unread:#ec7d73;",
    "--mark:#7fb0ea;--soft:#222b36;--looksoft:#2d251b}}\n",
    "*{box-sizing:border-box}html{scroll-padding-top:4.5rem}\n",
    "body{margin:0;background:var(--paper);color:var(--text);font:16px/1.5 system-ui,",
    "-apple-system,",
    "'Segoe UI',Roboto,'Noto Sans','DejaVu Sans',sans-serif;font-variant-numeric:tabular-nums}\n",
    "main,header,.bar>div{max-width:1280px;margin:0 auto;padding:0 1.5rem}\n",
    "header{padding-top:2.2rem}h1{font-size:1.9rem;line-height:1.2;margin:0 0 .4rem;",
    "letter-spacing:-.01em}h2{font-size:1.3rem;margin:2.6rem 0 .6rem}h3{font-size:1.05rem;",
    "margin:0;",
    "overflow-wrap:anywhere}p{margin:.4rem 0;max-width:46rem}.faint,figcaption{",
    "color:var(--faint)}\n",
    ".lead{font-size:1.1rem}.tiles{display:flex;flex-wrap:wrap;gap:.8rem;margin:1.2rem 0}\n",
    ".tile{background:var(--card);border:1px solid var(--line);border-radius:8px;",
    "padding:.7rem 1.1rem;",
    "min-width:9.5rem;border-top:4px solid var(--faint)}.tile b{display:block;font-size:1.8rem;",
    "line-height:1.25}.tile.ok{border-top-color:var(--ok)}.tile.look{border-top-color:var(--look)}",
    ".tile.unread{border-top-color:var(--unread)}\n",
    "table{border-collapse:collapse}th,td{padding:.3rem .7rem;text-align:right;",
    "vertical-align:middle;",
    "border-bottom:1px solid var(--line)}th{font-weight:600}thead th{color:var(--faint);",
    "font-weight:500;font-size:.88rem;vertical-align:bottom}th:first-child,td:first-child,.text{",
    "text-align:left!important}tr.sum th,tr.sum td{border-top:2px solid var(--line)}\n",
    ".scroll{overflow-x:auto}figure{margin:0}figcaption{font-size:.9rem;max-width:46rem}\n",
    ".figures{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(30rem,100%),1fr));",
    "gap:1rem ",
    "2rem;align-items:start}.tall{grid-row:span 2}h4{font-size:1rem;margin:1.2rem 0 .2rem}\n",
    "svg.figure{max-width:100%;height:auto;font-size:13px;display:block}svg.figure text{fill:",
    "var(--text)}.grid{stroke:var(--grid)}.diagonal{stroke:var(--faint);stroke-dasharray:5 4}\n",
    ".interval{stroke:var(--mark);stroke-width:5;stroke-opacity:.4;stroke-linecap:round}",
    ".dot.all{fill:",
    "var(--mark)}.dot.high{fill:var(--card);stroke:var(--ok);stroke-width:2}.official{stroke:",
    "var(--text);stroke-width:2.5}\n",
    ".point{fill:var(--mark);fill-opacity:.45;stroke:var(--mark)}.point.moderate{fill:var(--look);",
    "stroke:var(--look)}.point.off{fill-opacity:.85}.bar-fill,rect.bar{fill:var(--mark);",
    "fill-opacity:.75}\n",
    ".curve{fill:none;stroke:var(--mark);stroke-width:2}.curve.expected{stroke-dasharray:6 4;",
    "stroke:",
    "var(--faint)}.accepted{stroke:var(--ok)}.key{display:inline-block;width:.8em;height:.8em;",
    "border-radius:50%;background:var(--mark);margin-right:.3em}.key.high{border-radius:0;",
    "transform:",
    "rotate(45deg) scale(.8);background:none;border:2px solid var(--ok)}.key.tick{border-radius:0;",
    "width:3px;background:var(--text)}.key.moderate{border-radius:0;",
    "transform:rotate(45deg) scale(.8);",
    "background:var(--look)}.key.dash,.key.line{border-radius:0;height:0;width:1.6em;",
    "background:none;",
    "vertical-align:middle;border-top:2px dashed var(--faint)}.key.line{border-top:2px solid ",
    "var(--mark)}.legend{display:flex;flex-wrap:wrap;gap:.2rem 1.4rem;font-size:.9rem}\n",
    ".tools{display:flex;flex-wrap:wrap;gap:.5rem;align-items:center;margin:.8rem 0}button,",
    "input{font:",
    "inherit;color:inherit;background:var(--card);border:1px solid var(--line);border-radius:6px;",
    "padding:.25rem .7rem}button{cursor:pointer}button[aria-pressed=true]{",
    "border-color:var(--mark);",
    "box-shadow:inset 0 0 0 1px var(--mark)}button:disabled{opacity:.5;cursor:default}\n",
    ":focus-visible{outline:3px solid var(--mark);outline-offset:1px}button.main{background:",
    "var(--mark);color:var(--card);border-color:var(--mark);font-weight:600}\n",
    ".bar{position:sticky;top:0;z-index:5;background:var(--card);",
    "border-bottom:1px solid var(--line);",
    "margin-top:1.6rem}.bar>div{display:flex;flex-wrap:wrap;gap:.3rem 1rem;align-items:center;",
    "padding-top:.5rem;padding-bottom:.5rem}.bar span{margin-right:auto}\n",
    ".form{background:var(--card);border:1px solid var(--line);border-left:5px solid var(--ok);",
    "border-radius:8px;padding:1rem 1.2rem;margin:1rem 0}.form.look{border-left-color:var(--look)}",
    ".form.unread{border-left-color:var(--unread)}.form>p{max-width:none}.pill{font-size:.8rem;",
    "font-weight:600;padding:.05rem .6rem;border-radius:1rem;border:1px solid;margin-left:.5rem;",
    "white-space:nowrap}.ok .pill{color:var(--ok)}.look .pill{color:var(--look)}.unread .pill{",
    "color:",
    "var(--unread)}.why{font-weight:600}.look .why{color:var(--look)}.unread .why{color:",
    "var(--unread)}\n",
    ".two{display:grid;grid-template-columns:minmax(0,19rem) minmax(0,1fr);gap:1.4rem;",
    "margin-top:.7rem;",
    "align-items:start}@media(max-width:900px){.two{grid-template-columns:1fr}}.table{width:100%;",
    "height:auto;max-height:80vh;border:1px solid var(--line);border-radius:4px;display:block}\n",
    ".table rect{fill:none;stroke:#2c7a51;stroke-width:2;vector-effect:non-scaling-stroke}.table ",
    "rect.look,.table rect.unread{stroke:#d0342c;stroke-width:3}.table rect.missing{",
    "stroke:#5b6b7b;",
    "stroke-dasharray:4 3}\n",
    ".counts{width:100%;font-size:.94rem}.counts td,.counts th{padding:.22rem .45rem}.counts svg{",
    "display:block;border-radius:3px}.counts input{width:4.4rem;padding:.2rem .45rem;",
    "text-align:right;",
    "font-size:1.1rem}.or{white-space:nowrap;display:inline-block;margin-right:.55em}\n",
    ".counts tr.look,.counts tr.unread{background:var(--looksoft)}.counts tr.changed{background:",
    "var(--soft)}.counts tr.changed input{border-color:var(--mark);font-weight:600}",
    "input[aria-invalid=",
    "true]{border-color:var(--unread)!important;outline-color:var(--unread)}.small{",
    "font-size:.84rem;",
    "color:var(--faint)}td.text.small{min-width:7.5rem}\n",
    ".rest{width:100%;font-size:.92rem}.rest td{overflow-wrap:anywhere}.edit{display:flex;",
    "flex-wrap:",
    "wrap;gap:.4rem .8rem}.edit label{white-space:nowrap}.edit input{width:5rem;",
    "text-align:right}\n",
    "code{background:var(--soft);padding:.05rem .35rem;border-radius:4px;overflow-wrap:anywhere}\n",
    ".hidden{display:none!important}footer{color:var(--faint);font-size:.9rem;",
    "padding:2.5rem 0 3rem}\n",
    "kbd{border:1px solid var(--line);border-bottom-width:2px;border-radius:4px;padding:0 .3rem;",
    "font:inherit;font-size:.85em}\n",
    "@media print{:root{--paper:#fff;--card:#fff;--text:#000;--faint:#555;--line:#bbb;--grid:#ddd;",
    "--ok:#2c7a51;--look:#b3590f;--unread:#a8322a;--mark:#2a5d9f;--soft:#fff;--looksoft:#fff}.bar,",
    ".tools,.edit{display:none!important}body{font-size:10.5pt}.form,figure,tr{",
    "break-inside:avoid}h2{",
    "break-after:avoid}.two{grid-template-columns:15rem 1fr}input{border:0;background:none}}\n",
    NULL};

/* Values that differ from what was read, or that a person has confirmed, are kept by tally and
   field and saved as a table that tally-read takes. */
static const char *const page_script[] = {
    "'use strict';(function(){\n",
    "var $=function(q,e){return Array.from((e||document).querySelectorAll(q))};\n",
    "var meta=JSON.parse(document.getElementById('meta').textContent);\n",
    "var edits=new Map(),unsaved=false;\n",
    "var digits={};meta.fields.forEach(function(f){digits[f[0]]=f[1]});\n",
    "function put(t,f,v){if(!edits.has(t))edits.set(t,new Map());edits.get(t).set(f,v)}\n",
    "function drop(t,f){var m=edits.get(t);if(m){m.delete(f);if(!m.size)edits.delete(t)}}\n",
    "meta.corrections.forEach(function(c){put(c[0],c[1],c[2])});\n",
    "function count(){var n=0;edits.forEach(function(m){n+=m.size});return n}\n",
    "function show(){var n=count();\n",
    "  document.getElementById('tally').textContent=n?n+(n===1?' value':' values')+\n",
    "    ' corrected or confirmed'+(unsaved?', not saved yet':''):'No corrections yet';\n",
    "  $('button.save').forEach(function(b){b.disabled=!n})}\n",
    /* The sums of a form, as they stand with the corrections. */
    "function sums(form){var v={};$('input[data-f]',form).forEach(function(i){v[i.dataset.f]=\n",
    "    /^[0-9]+$/.test(i.value)?+i.value:null});\n",
    "  meta.sums.forEach(function(s,k){$('.sum'+k,form).forEach(function(p){var parts=0;\n",
    "    s[1].forEach(function(f){parts+=v[f]||0});var total=v[s[0]];\n",
    "    p.textContent=total===null?s[0]+' has no value; its parts make '+parts:total===parts?\n",
    "      s[0]+' adds up ('+parts+')':s[0]+' reads '+total+', its parts make '+parts})})}\n",
    "function holder(i){return i.closest('[data-t]')}\n",
    /* An empty field that was empty before says nothing unless it was read as such. */
    "function take(i,confirmed){var t=holder(i).dataset.t,f=i.dataset.f,v=i.value.trim();\n",
    "  var row=i.closest('tr,label'),blank=/^[-\\u2013]$/.test(v);if(blank)v='';\n",
    "  if(!v&&!i.dataset.read&&!blank&&!row.classList.contains('missing')){drop(t,f);\n",
    "    row.classList.remove('changed');i.setAttribute('aria-invalid',false);show();",
    "return true}\n",
    "  var bad=!/^[0-9]*$/.test(v)||v.length>digits[f];i.setAttribute('aria-invalid',bad);\n",
    "  if(bad){i.title='a whole number of at most '+digits[f]+' digits, or nothing';",
    "return false}\n", "  v=v.replace(/^0+(?=[0-9])/,'');i.value=blank?'\\u2013':v;i.title='';\n",
    "  if(confirmed||blank||v!==i.dataset.read)put(t,f,v);else drop(t,f);\n",
    "  row.classList.toggle('changed',edits.has(t)&&\n",
    "    edits.get(t).has(f));unsaved=true;sums(holder(i));show();return true}\n",
    /* The next value to look at; in a form without any, the next value. */
    "function next(i,step){var all=$('input[data-f]').filter(function(e){return e.offsetParent}",
    ");\n", "  var at=all.indexOf(i);if(step)return all[at+step];\n",
    "  return all.slice(at+1).find(function(e){var r=e.closest('tr');return r&&\n",
    "    /look|unread/.test(r.className)&&!r.classList.contains('changed')})||all[at+1]}\n",
    "document.addEventListener('change',function(e){if(e.target.dataset.f)take(e.target,false)}",
    ");\n", "document.addEventListener('keydown',function(e){var i=e.target,to;\n",
    "  if(i.dataset&&i.dataset.f){if(e.key==='Enter'){e.preventDefault();\n",
    "      if(take(i,true)&&(to=next(i,0))){to.focus();to.select()}}\n",
    "    else if(e.key==='ArrowDown'||e.key==='ArrowUp'){e.preventDefault();\n",
    "      if((to=next(i,e.key==='ArrowDown'?1:-1))){to.focus();to.select()}}\n",
    "    else if(e.key==='Escape'){i.value=i.dataset.read;take(i,false)}return}\n",
    "  if(i.tagName==='INPUT'||e.ctrlKey||e.metaKey||e.altKey)return;\n",
    "  if(e.key==='j'||e.key==='k'){var f=$('.form:not(.hidden)'),y=80,k,best=null;\n",
    "    for(k=0;k<f.length;k++){var d=f[k].getBoundingClientRect().top-y;\n",
    "      if(e.key==='j'?d>5&&!best:d<-5)best=f[k]}\n",
    "    if(best){best.scrollIntoView();to=$('tr.look input,tr.unread input,input[data-f]',",
    "best)[0];\n", "      if(to)to.focus({preventScroll:true})}}});\n",
    "function cell(v){v=String(v);return /[\",\\r\\n]/.test(v)?'\"'+v.replace(/\"/g,",
    "'\"\"')+'\"':v}\n", "function save(name,rows){var a=document.createElement('a');\n",
    "  a.href=URL.createObjectURL(new Blob([rows.map(function(r){return r.map(cell).join(',",
    "')+'\\n'})\n",
    "    .join('')],{type:'text/csv'}));a.download=name;document.body.appendChild(a);a.click();\n",
    "  a.remove()}\n",
    "function table(){var rows=[['tally','field','value']];edits.forEach(function(m,t){\n",
    "  m.forEach(function(v,f){rows.push([t,f,v])})});return rows}\n",
    "document.getElementById('save').addEventListener('click',function(){",
    "save('corrections.csv',table());\n", "  unsaved=false;show()});\n",
    /* Digits from the right; further left only what was seen to be empty is certain. */
    "function labels(){var rows=[['path','label']];$('tr[data-s]').forEach(function(r){\n",
    "  var t=holder(r).dataset.t,f=r.dataset.f,m=edits.get(t);if(!m||!m.has(f))return;\n",
    "  var v=m.get(f),s=r.dataset.s,n=s.length,p,d;for(p=0;p<n;p++){d=v.length-n+p;\n",
    "    var label=d>=0?v[d]:s[p]==='e'?'empty':'';\n",
    "    if(label)rows.push(['cells/'+t.replace(/\\//g,'_')+'/'+f+'-'+p+'.png',label])}});",
    "return rows}\n", "document.getElementById('labels').addEventListener('click',function(){\n",
    "  save('cell-labels.csv',labels())});\n",
    "window.addEventListener('beforeunload',function(e){if(unsaved)e.preventDefault()});\n",
    /* Which forms are seen. */
    "var kind='all',words='';function sift(){$('.form,.rest tr[data-t]').forEach(function(f){\n",
    "  f.classList.toggle('hidden',!(kind==='all'||f.classList.contains(kind))||\n",
    "    f.dataset.t.toLowerCase().indexOf(words)<0)})}\n",
    "$('button[data-kind]').forEach(function(b){b.addEventListener('click',function(){\n",
    "  kind=b.dataset.kind;$('button[data-kind]').forEach(function(o){\n",
    "    o.setAttribute('aria-pressed',o===b)});sift()})});\n",
    "document.getElementById('find').addEventListener('input',function(e){\n",
    "  words=e.target.value.toLowerCase();sift()});\n",
    /* Rows without pictures get their inputs when they are asked for. */
    "document.addEventListener('click',function(e){var b=e.target;if(!b.classList||\n",
    "    !b.classList.contains('open'))return;var row=b.closest('tr'),v=row.dataset.v.split(',",
    "'),box=\n", "    document.createElement('div');box.className='edit';\n",
    "  meta.fields.forEach(function(f,k){var l=document.createElement('label'),i=\n",
    "      document.createElement('input'),m=edits.get(row.dataset.t);\n",
    "    l.textContent=f[0]+' ';i.dataset.f=f[0];i.dataset.read=v[k];i.inputMode='numeric';\n",
    "    i.value=m&&m.has(f[0])?m.get(f[0]):v[k];l.appendChild(i);box.appendChild(l)});\n",
    "  b.replaceWith(box);$('input',box)[0].focus()});\n", "show()})();\n", NULL};

static inline void page_lines(text_buffer *to, const char *const *lines) {
  for (; *lines; lines++) text_append(to, *lines, strlen(*lines));
}

/* For the script: fields, sums, and the corrections that are in effect already. */
static inline void page_meta(text_buffer *to, const report *r) {
  const tally_template *form = r->form;
  int written = 0;
  text_add(to, "<script type=\"application/json\" id=\"meta\">{\"fields\":[");
  for (int f = 0; f < form->fields; f++)
    text_add(to, "%s[\"%s\",%d]", f ? "," : "", form->field[f].name, form->field[f].digits);
  text_add(to, "],\"sums\":[");
  for (int s = 0; s < form->sums; s++) {
    text_add(to, "%s[\"%s\",[", s ? "," : "", form->field[form->sum[s].total].name);
    for (int k = 0; k < form->sum[s].parts; k++)
      text_add(to, "%s\"%s\"", k ? "," : "", form->field[form->sum[s].part[k]].name);
    text_add(to, "]]");
  }
  text_add(to, "],\"corrections\":[");
  for (int i = 0; i < form_count(r->list); i++)
    for (int f = 0; f < form->fields; f++) {
      const report_count *c = report_count_at(r, i, f);
      if (!c->corrected) continue;
      text_add(to, "%s[", written++ ? "," : "");
      json_text(to, r->list->names[i]);
      if (c->value >= 0)
        text_add(to, ",\"%s\",\"%d\"]", form->field[f].name, c->value);
      else
        text_add(to, ",\"%s\",\"\"]", form->field[f].name);
    }
  text_add(to, "]}</script>\n");
}

static inline void page_tile(text_buffer *to, const char *class, long long number,
                             const char *what) {
  char shown[32];
  text_add(to, "<div class=\"tile %s\"><b>%s</b>%s</div>\n", class, thousands(number, shown), what);
}

static inline void page_headline(text_buffer *to, const report *r) {
  report_figures f = report_measure(r);
  char a[32], b[32];
  int look = report_verdicts(r, FORM_LOOK), unread = report_verdicts(r, FORM_UNREAD);
  long long written = f.counts - f.status[TALLY_COUNT_MISSING];
  text_add(to, "<header><h1>Vote tallies, read from their pictures</h1>\n<p class=\"lead\">");
  text_add(to, "%s of %s %s accepted without reservation.",
           thousands(report_verdicts(r, FORM_ACCEPTED), a), thousands(form_count(r->list), b),
           form_count(r->list) == 1 ? "tally is" : "tallies are");
  if (look + unread)
    text_add(to,
             " %s a person: %d with counts in doubt or sums that fail, %d that could not be read.",
             look + unread == 1 ? "One needs" : "The others need", look, unread);
  text_add(to, "</p>\n<div class=\"tiles\">");
  page_tile(to, "", form_count(r->list), form_count(r->list) == 1 ? "tally" : "tallies");
  page_tile(to, "ok", report_verdicts(r, FORM_ACCEPTED), "accepted");
  page_tile(to, "look", look, "need a look");
  page_tile(to, "unread", unread, "could not be read");
  text_add(to, "<div class=\"tile\"><b>%.1f %%</b>of %s counts accepted</div>\n",
           written ? 100.0 * (double)f.status[TALLY_COUNT_OK] / (double)written : 0,
           thousands(written, a));
  if (f.compared)
    text_add(to,
             "<div class=\"tile\"><b>%.2f %%</b>of %s accepted counts are<br>not the official one"
             "</div>\n",
             f.accepted ? 100.0 * (double)f.accepted_wrong / (double)f.accepted : 0,
             thousands(f.accepted, a));
  text_add(to, "</div>\n<p class=\"faint\">Template ");
  html_text(to, file_name_of(r->template_path));
  text_add(to, ", model ");
  html_text(to, file_name_of(r->model_path));
  text_add(to,
           ". A count is accepted when the reader gives it a probability of at least %g and its "
           "sums hold. Blank counts (%s) are missing, not zero.</p></header>\n",
           1 - r->risk, thousands(f.status[TALLY_COUNT_MISSING], a));
}

static inline void page_total_row(text_buffer *to, const report *r, int field) {
  char a[32], b[32], c[32], d[32];
  tally_total all, high;
  tally_totals_get(&r->totals, TALLY_ALL, field, NULL, &all);
  tally_totals_get(&r->totals, TALLY_HIGH_QUALITY, field, NULL, &high);
  int is_total = r->is_total[field];
  text_add(to, "<tr%s><th scope=\"row\">%s</th><td>%s</td><td>%s</td><td>%s to %s</td>",
           is_total ? " class=\"sum\"" : "", r->form->field[field].name,
           thousands((long long)all.votes, a), thousands((long long)(all.estimate + 0.5), b),
           thousands((long long)all.low, c), thousands((long long)all.high, d));
  if (is_total)
    text_add(to, "<td></td><td></td><td></td>");
  else
    text_add(to, "<td>%.2f %%</td><td>%.2f to %.2f</td><td>%.2f %%</td>", 100 * all.share,
             100 * all.share_low, 100 * all.share_high, 100 * high.share);
  if (r->official) {
    long long official = report_official(r, field);
    double share = report_official_share(r, field);
    if (official >= 0)
      text_add(to, "<td>%s</td>", thousands(official, a));
    else
      text_add(to, "<td></td>");
    if (share >= 0 && !is_total)
      text_add(to, "<td>%.2f %%</td>", 100 * share);
    else
      text_add(to, "<td></td>");
  }
  text_add(to, "<td>%s</td><td>%s</td></tr>\n", thousands(all.missing, a),
           thousands(all.unread, b));
}

static inline void page_totals(text_buffer *to, const report *r) {
  char number[32];
  text_add(
      to,
      "<h2>Totals</h2>\n<div class=\"scroll\"><table><thead><tr><th>field</th>"
      "<th>votes<br>read</th><th>estimate</th><th>90 %% interval</th><th>share</th>"
      "<th>90 %% interval</th><th>share,<br>high quality</th>%s<th>missing</th><th>unread</th></tr>"
      "</thead>\n",
      r->official ? "<th>official</th><th>official<br>share</th>" : "");
  for (int f = 0; f < r->form->fields; f++) page_total_row(to, r, f);
  text_add(
      to,
      "</table></div>\n<p class=\"faint\">Votes read are the sum of the values below. The estimate "
      "is of what is written on these tallies: counts in doubt or unread count with what they may "
      "be, given the field&#39;s other counts; nothing written adds nothing. Intervals and shares "
      "are the estimate&#39;s. The last two columns say how many counts are missing or unread, "
      "tallies that could not be registered included. These add nothing to the estimate. %s "
      "tallies are of high quality, as Torres and Cant&uacute; (2022) define it: "
      "the mean of the counts&#39; quality is above 0.9.</p>\n",
      thousands(r->totals.tallies[TALLY_HIGH_QUALITY], number));
}

static inline void page_shares(text_buffer *to, const report *r) {
  text_add(to, "<h2>Shares</h2>\n<figure>");
  figure_shares(to, r);
  text_add(
      to,
      "<figcaption class=\"legend\"><span><i class=\"key\"></i>all tallies, with 90 %% interval"
      "</span><span><i class=\"key high\"></i>tallies of high quality</span>%s</figcaption>"
      "</figure>\n",
      r->official ? "<span><i class=\"key tick\"></i>official</span>" : "");
}

static inline void page_figures(text_buffer *to, const report *r) {
  text_add(to, "<h2>%s</h2>\n<div class=\"figures\">\n",
           r->official ? "Counts, and how far to trust them" : "The counts");
  if (r->official) {
    text_add(to, "<figure class=\"tall\"><h4>Read against official</h4>");
    figure_scatter(to, r);
    text_add(
        to,
        "<figcaption><div class=\"legend\"><span><i class=\"key\"></i>tally of high quality</span>"
        "<span><i class=\"key moderate\"></i>moderate</span><span><i class=\"key dash\"></i>"
        "equal</span></div>One point per pair of counts, the larger the more often it occurs; "
        "logarithmic axes.</figcaption></figure>\n");
  }
  text_add(to, "<figure><h4>Risk against coverage</h4>");
  figure_risk(to, r);
  text_add(to,
           "<figcaption>%sThe share of wrong counts if only the surest are taken.</figcaption>"
           "</figure>\n",
           r->official
               ? "<div class=\"legend\"><span><i class=\"key line\"></i>found with the official "
                 "counts</span><span><i class=\"key dash\"></i>expected by the reader</span></div>"
               : "As the reader&#39;s own probabilities have it. ");
  text_add(to, "<figure><h4>Distribution of the counts</h4>");
  figure_histogram(to, r);
  text_add(
      to,
      "<figcaption>How many counts have how many votes, totals left out.</figcaption></figure>\n"
      "</div>\n");
}

static inline void page_review_head(text_buffer *to, const report *r, int shown) {
  int rest = form_count(r->list) - shown;
  text_add(
      to,
      "<h2 id=\"forms\">Forms, those that need a look first</h2>\n"
      "<p>Compare each value with its picture. Type what is written, or press <kbd>Enter</kbd> "
      "to confirm a value as it is and go to the next one in doubt; <kbd>-</kbd> means that "
      "nothing is written there. <kbd>&uarr;</kbd> <kbd>&darr;</kbd> move between values, "
      "<kbd>Esc</kbd> takes a change back, <kbd>j</kbd> <kbd>k</kbd> move between forms. Then "
      "save, and run <code>tally-read --corrections corrections.csv</code> with the same "
      "folders: corrected values count as certain and help to read the rest of their sums.</p>\n");
  if (rest > 0)
    text_add(to,
             "<p class=\"faint\">%d forms are shown in full; the other %d are in the table "
             "at the end. <code>--pictures N</code> shows more.</p>\n",
             shown, rest);
  text_add(to, "<div class=\"tools\"><button data-kind=\"all\" aria-pressed=\"true\">all</button>"
               "<button data-kind=\"look\" aria-pressed=\"false\">need a look</button>"
               "<button data-kind=\"unread\" aria-pressed=\"false\">could not be read</button>"
               "<button data-kind=\"ok\" aria-pressed=\"false\">accepted</button>"
               "<input id=\"find\" type=\"search\" placeholder=\"find a tally\" "
               "aria-label=\"find a tally\"></div>\n");
}

/* Everything before the forms. */
static inline void page_begin(text_buffer *to, const report *r, int shown) {
  text_add(
      to, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none';img-src data:;"
          "style-src 'unsafe-inline';script-src 'unsafe-inline'\">\n"
          "<link rel=\"icon\" href=\"data:,\"><title>Vote tallies</title>\n<style>\n");
  page_lines(to, page_style);
  text_add(to, "</style></head><body>\n");
  page_headline(to, r);
  text_add(
      to, "<div class=\"bar\"><div><span id=\"tally\" role=\"status\">No corrections yet</span>"
          "<button class=\"save\" id=\"labels\" disabled title=\"path and label of every corrected "
          "cell; belongs into the output folder of tally-extract, for tally-train\">Save cell "
          "labels</button><button class=\"save main\" id=\"save\" disabled>Save corrections.csv"
          "</button></div></div>\n<main>\n");
  page_totals(to, r);
  page_shares(to, r);
  page_figures(to, r);
  page_review_head(to, r, shown);
}

/* ---- the forms without pictures */

static inline void page_rest_begin(text_buffer *to, int rest) {
  if (!rest) return;
  text_add(
      to,
      "<h2>The other forms</h2>\n<div class=\"scroll\"><table class=\"rest\"><thead><tr>"
      "<th>tally</th>"
      "<th class=\"text\">status</th><th class=\"text\">why</th><th class=\"text\">values, in the "
      "order of the totals above</th></tr></thead>\n");
}

static inline void page_rest(text_buffer *to, const report *r, int tally) {
  const report_form *f = &r->forms[tally];
  text_add(to, "<tr class=\"%s\" data-t=\"", verdict_classes[f->verdict]);
  html_text(to, r->list->names[tally]);
  text_add(to, "\" data-v=\"");
  for (int k = 0; k < r->form->fields; k++) {
    int value = report_count_at(r, tally, k)->value;
    if (value >= 0)
      text_add(to, "%s%d", k ? "," : "", value);
    else
      text_add(to, "%s", k ? "," : "");
  }
  text_add(to, "\"><td>");
  html_text(to, r->list->names[tally]);
  text_add(to, "</td><td class=\"text\">%s</td><td class=\"text\">", verdict_words[f->verdict]);
  html_text(to, f->reason ? f->reason : "");
  text_add(to, "</td><td class=\"text\">");
  for (int k = 0; k < r->form->fields; k++) {
    int value = report_count_at(r, tally, k)->value;
    if (value >= 0)
      text_add(to, "%s%d", k ? " " : "", value);
    else
      text_add(to, "%s&ndash;", k ? " " : "");
  }
  text_add(to, " <button class=\"open\">correct</button></td></tr>\n");
}

static inline void page_end(text_buffer *to, const report *r, int rest) {
  if (rest) text_add(to, "</table></div>\n");
  text_add(to,
           "<footer>Every value can be traced: counts.csv has each count with its probability and "
           "runner-up, tallies.csv each form with its reason, totals.csv the table above. Only the "
           "tables of the forms are shown, never names or signatures.</footer>\n</main>\n");
  page_meta(to, r);
  text_add(to, "<script>\n");
  page_lines(to, page_script);
  text_add(to, "</script></body></html>\n");
}

#endif
