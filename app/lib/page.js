'use strict';
const ENTITIES = { '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;', "'": '&#39;' };
const escape = value => String(value).replace(/[&<>"']/g, c => ENTITIES[c]);

const row = r => `<tr><td>${escape(r.time instanceof Date ? r.time.toISOString() : r.time)}</td>` +
  `<td>${escape(r.method)}</td><td>${escape(r.path)}</td><td>${escape(r.address)}</td></tr>`;

const table = data => `<p><strong id="count">${escape(data.count)}</strong> requests recorded</p>
<table><thead><tr><th>Time</th><th>Method</th><th>Path</th><th>Address</th></tr></thead>
<tbody>${data.newest.map(row).join('\n')}</tbody></table>`;

/** The page; data is {count, newest} or null when the database could not be read. */
module.exports = data => `<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>Phoenix</title><style>
body{font:16px/1.5 system-ui,sans-serif;max-width:56rem;margin:3rem auto;padding:0 1rem;color:#223;background:#fafafc}
h1{color:#c2410c}strong{font-size:2rem}table{width:100%;border-collapse:collapse;background:#fff}
th,td{text-align:left;padding:.4rem .7rem;border-bottom:1px solid #e5e7eb;word-break:break-word}
.note{padding:1rem;background:#fef3c7;border-left:4px solid #d97706}
</style></head><body><h1>Phoenix</h1>
${data ? table(data) : '<p class="note">The recorded requests are unavailable at the moment.</p>'}
</body></html>
`;
module.exports.escape = escape;
