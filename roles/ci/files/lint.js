// Parses the server's files as the Node.js that runs this would load them: node lint.js, in a checkout of the application.
// Left out, since the server does not load them so: files for browsers, ES modules, and what ESLint is to ignore.
'use strict';
const { execFileSync } = require('child_process');
const fs = require('fs');
const Module = require('module');
const path = require('path');
const vm = require('vm');

const BROWSER = ['public/', 'static/', 'assets/', 'client/', 'browser/', 'frontend/', 'www/', 'dist/', 'vendor/', '*.min.js'];

function read(file) {
  return JSON.parse(fs.readFileSync(file, 'utf8'));
}

function tracked(...words) {
  return execFileSync('git', ['ls-files', '-z', '--cached', ...words], { encoding: 'utf8', maxBuffer: 1 << 26 })
    .split('\0').filter(name => name.endsWith('.js'));
}

function excluded() {
  const rules = BROWSER.concat(read('package.json').eslintIgnore || []).map(rule => `--exclude=${rule}`);
  if (fs.existsSync('.eslintignore')) rules.push('--exclude-from=.eslintignore');
  return new Set(tracked('--ignored', ...rules));
}

// "type" of the nearest package.json decides how Node.js reads a file.
function isModule(folder) {
  const file = path.join(folder, 'package.json');
  if (fs.existsSync(file)) return read(file).type === 'module';
  return folder === '.' ? false : isModule(path.dirname(folder));
}

const left = excluded();
let checked = 0;
tracked().filter(name => !left.has(name) && fs.existsSync(name) && !isModule(path.dirname(name))).forEach(name => {
  const text = fs.readFileSync(name, 'utf8').replace(/^#!.*/, '');
  // No CommonJS file has such a line, so whatever loads this one, it is not require().
  if (/^\s*(import\b\s*["'{*\w]|export\b\s*[{*\w])/m.test(text)) return;
  checked += 1;
  try {
    new vm.Script(Module.wrap(text), { filename: name });
  } catch (error) {
    console.error(error.stack.split('\n').slice(0, 5).join('\n'));
    process.exitCode = 1;
  }
});
console.log(`${checked} files parsed`);
