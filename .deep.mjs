import * as yaml from 'yaml'; import * as toml from 'smol-toml';
const n=200000;
const kind=process.argv[2], N=Number(process.argv[3]);
const texts={flow:'a: '+'['.repeat(N)+']'.repeat(N), seq:'a:\n  '+'- '.repeat(N)+'x', q:'? '.repeat(N)+'x', map:Array.from({length:N},(_, i)=>' '.repeat(i)+'a:\n').join(''),tag:'- !!seq '.repeat(N), anch:'- &a '.repeat(N), colon: 'a: '.repeat(N), colon2: ': '.repeat(N), unq:'["]", '.repeat(N), fmap:'{a: '.repeat(N), fq:'{? '.repeat(N)};
const text=texts[kind];
const MAX=1000;
function deep(text){ let flow=0, line=0, ls=true;
 for (const t of new yaml.Lexer().lex(text)) {
  if (t==='['||t==='{') flow++; else if (t===']'||t==='}') flow=Math.max(0,flow-1);
  else if (t==='\n'||t==='\r\n') {line=0; }
  else if (flow===0 && (/^[-?:]$/.test(t))) line++;
  else if (flow===0 && /^ +$/.test(t) && line===0) line+=t.length;
  if (flow>MAX||line>MAX) return true;
 } return false;}
let s=performance.now(); console.log('deep',deep(text),(performance.now()-s).toFixed());
if (process.argv[4]) {
s=performance.now();
try{const d=yaml.parseDocument(text,{logLevel:'error'});console.log(d.errors.length, d.errors[0]?.message.slice(0,50));yaml.visit(d,{});d.toJS()}catch(e){console.log(e.constructor.name,e.message.slice(0,80))}
console.log((performance.now()-s).toFixed())}
if(kind==='toml'){}
