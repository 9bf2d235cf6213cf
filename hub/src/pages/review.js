// The review grid. Decisions are kept in the browser, by image, until they are saved as a table.
'use strict';
(() => {
  const grid = document.getElementById('grid');
  if (!grid) return;
  const KEPT = 'flywheel-review';
  const REJECT = '!reject', UNSURE = '!unsure';
  const WORDS = { [REJECT]: 'no class', [UNSURE]: 'unsure' };
  const labels = JSON.parse(grid.dataset.labels), keys = JSON.parse(grid.dataset.keys);
  const tiles = [...grid.children];
  const progress = document.getElementById('progress');
  const by = document.getElementById('by');
  const dialog = document.getElementById('choose');
  const field = document.getElementById('class');
  const read = (key, otherwise) => { try { return JSON.parse(localStorage.getItem(key)) ?? otherwise; } catch { return otherwise; } };
  const keep = (key, value) => { try { localStorage.setItem(key, JSON.stringify(value)); } catch { /* private window: kept on this page */ } };
  const said = new Map(Object.entries(read(KEPT, {})));
  const undo = [];
  const started = Date.now();
  let here = 0, decided = 0;

  by.value = read(KEPT + '-by', by.value);
  by.addEventListener('change', () => keep(KEPT + '-by', by.value));

  const first = tile => tile.dataset.images.split(' ')[0];
  const isDecided = tile => said.has(first(tile)) || tile.dataset.said !== undefined;

  function show(tile) {
    const word = said.get(first(tile))?.word ?? tile.dataset.said;
    const text = word === undefined ? '' : WORDS[word] ?? word;
    tile.querySelector('.said').textContent = text;
    tile.classList.toggle('decided', word !== undefined);
    tile.classList.toggle('corrected', word !== undefined && word !== tile.dataset.guess);
    tile.setAttribute('aria-label', `${tile.dataset.guess}${text ? ', decided: ' + text : ''}`);
  }

  function tell(what) {
    const left = tiles.filter(tile => !isDecided(tile)).length;
    const minutes = (Date.now() - started) / 60000;
    const speed = decided > 4 ? `, ${Math.round(decided / minutes)} a minute` : '';
    progress.textContent = `${what ? what + '. ' : ''}${left} of ${tiles.length} images wait${speed}.`;
  }

  function go(place, focus = true) {
    tiles[here].tabIndex = -1;
    tiles[here].setAttribute('aria-selected', 'false');
    here = Math.max(0, Math.min(tiles.length - 1, place));
    tiles[here].tabIndex = 0;
    tiles[here].setAttribute('aria-selected', 'true');
    if (focus) tiles[here].focus();
  }

  function next() {
    const after = tiles.findIndex((tile, i) => i > here && !isDecided(tile));
    const place = after >= 0 ? after : tiles.findIndex(tile => !isDecided(tile));
    if (place >= 0) go(place);
  }

  function decide(word) {
    const tile = tiles[here];
    const images = tile.dataset.images.split(' ');
    undo.push([here, images.map(image => [image, said.get(image)])]);
    const at = new Date().toISOString();
    images.forEach(image => said.set(image, { word, at }));
    keep(KEPT, Object.fromEntries(said));
    decided += 1;
    show(tile);
    tell(`${WORDS[word] ?? word}`);
    next();
  }

  function takeBack() {
    const last = undo.pop();
    if (!last) return;
    const [place, before] = last;
    before.forEach(([image, decision]) => decision === undefined ? said.delete(image) : said.set(image, decision));
    keep(KEPT, Object.fromEntries(said));
    decided = Math.max(0, decided - 1);
    show(tiles[place]);
    tell('Taken back');
    go(place);
  }

  const columns = () => {
    const top = tiles[0].offsetTop;
    const second = tiles.findIndex(tile => tile.offsetTop !== top);
    return second < 0 ? tiles.length : second;
  };

  const moves = {
    ArrowRight: () => go(here + 1), ArrowLeft: () => go(here - 1),
    ArrowDown: () => go(here + columns()), ArrowUp: () => go(here - columns()),
    Home: () => go(0), End: () => go(tiles.length - 1),
    Enter: () => decide(tiles[here].dataset.guess), ' ': () => decide(tiles[here].dataset.guess),
    x: () => decide(REJECT), u: () => decide(UNSURE), z: takeBack, n: next,
    c: () => { field.value = ''; dialog.showModal(); },
  };

  grid.addEventListener('keydown', event => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const label = labels[keys.indexOf(event.key)];
    const act = label === undefined ? moves[event.key] : () => decide(label);
    if (!act) return;
    event.preventDefault();
    act();
  });

  grid.addEventListener('click', event => {
    const tile = event.target.closest('[role=option]');
    if (!tile) return;
    go(tiles.indexOf(tile));
    const button = event.target.closest('button');
    if (button) decide(button.dataset.label);
  });

  dialog.addEventListener('close', () => {
    if (dialog.returnValue && labels.includes(field.value)) decide(field.value);
    else tiles[here].focus();
    dialog.returnValue = '';
  });

  document.getElementById('help').addEventListener('click', event => {
    const keys = document.getElementById('keys');
    keys.hidden = !keys.hidden;
    event.currentTarget.setAttribute('aria-expanded', String(!keys.hidden));
  });

  document.getElementById('save').addEventListener('click', () => {
    const quoted = text => /[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
    const rows = [...said].map(([image, { word, at }]) => `${image},${quoted(word)},${at}\n`);
    const link = document.createElement('a');
    link.href = URL.createObjectURL(new Blob(['image,label,said_at\n', ...rows], { type: 'text/csv' }));
    link.download = `labels-${by.value.replace(/[^\w-]+/g, '-') || 'me'}.csv`;
    link.click();
    tell(`${said.size} labels are in ${link.download}: flywheel samples import ${link.download} --by '${by.value}'`);
  });

  tiles.forEach(show);
  go(Math.max(0, tiles.findIndex(tile => !isDecided(tile))), false);
  tell('');
})();
