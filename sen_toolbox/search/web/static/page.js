'use strict'
// All text reaches the page by textContent, so no name or description is ever read as HTML.
const find = (id) => document.getElementById(id)
const make = (tag, attributes = {}, ...children) => {
  const element = Object.assign(document.createElement(tag), attributes)
  element.append(...children)
  return element
}
const state = {
  like: null, picture: null, right: new Map(), root: '', model: '', words: false,
  asked: 0, results: [], k: 0, shown: 0, opened: 0,
}
// Results at first, and at most.
const FIRST = 30
const MOST = 10000
// What the server takes of a picture in base64, and the size that a larger one is made to fit.
const LIMIT = 1.8e6
const LARGEST = 1600
const picture = (id, size) => `picture/${id}?size=${size}`

async function ask(address, body) {
  const options = body && {
    method: 'POST', headers: { 'Content-Type': 'application/json' }, body: JSON.stringify(body),
  }
  let response
  try {
    response = await fetch(address, options)
  } catch {
    throw new Error('The server does not answer. Is sen-search serve still running?')
  }
  const answer = await response.json()
  if (!response.ok) throw new Error(answer.error)
  return answer
}

function say(text, wrong = false) {
  find('status').textContent = text
  find('status').classList.toggle('wrong', wrong)
}

function seconds(text) {
  if (!text.trim()) return null
  if (!/^(\d+:){0,2}\d+(\.\d+)?$/.test(text.trim())) throw new Error(`"${text}" is not a time like 1:30`)
  return text.trim().split(':').reduce((total, part) => 60 * total + Number(part), 0)
}

const clock = (time) => {
  const whole = Math.floor(time)
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, '0')}`
}

// Bytes of a name that are not text come as lone surrogates.
const short = (path) =>
  (path.startsWith(state.root + '/') ? path.slice(state.root.length + 1) : path).toWellFormed()

async function search(k = state.k || FIRST) {
  const number = ++state.asked
  const text = find('text').value.trim()
  if (!text && !state.like && !state.picture) {
    show([], k)
    say('')
    return
  }
  find('results').classList.add('busy')
  try {
    const answer = await ask('api/search', {
      text, like: state.like, picture: state.picture, right: [...state.right.keys()], k,
      within: find('within').value,
      from: seconds(find('from').value), to: seconds(find('to').value),
    })
    // Answers may overtake one another.
    if (number !== state.asked) return
    show(answer.results, k)
    const notes = answer.remarks.map((remark) => `${remark[0].toUpperCase()}${remark.slice(1)}.`)
    if (!answer.results.length) notes.push('Nobody fits these filters.')
    if (state.right.size) notes.push(`Refined by ${state.right.size} marked.`)
    say(notes.join(' '))
  } catch (error) {
    if (number === state.asked) say(error.message, true)
  } finally {
    if (number === state.asked) find('results').classList.remove('busy')
  }
}

function show(results, k) {
  Object.assign(state, { results, k })
  find('more').hidden = results.length < k || k >= MOST
  const best = Math.max(results.length ? results[0].score : 0, 1e-6)
  find('results').replaceChildren(...results.map((result, index) => card(result, index + 1, best)))
  find('forget').hidden = !state.right.size
  find('forget').textContent = `Forget ${state.right.size} marked`
}

function card(result, rank, best) {
  const image = make('img', { src: picture(result.id, 'small'), alt: `result ${rank}`, loading: 'lazy' })
  image.addEventListener('error', () => { image.alt = 'the file is gone or damaged' })
  const bar = make('i')
  bar.style.width = `${100 * Math.max(0, result.score / best)}%`
  const time = result.place.time === undefined ? '' : ` at ${clock(result.place.time)}`
  const who = result.identity === null ? '' : `${result.identity} · `
  const gone = result.missing ? ' (the file is gone)' : ''
  const mark = make('button', { className: 'mark', type: 'button', textContent: '✓ right' })
  const isRight = state.right.has(result.id)
  mark.setAttribute('aria-pressed', isRight)
  mark.addEventListener('click', () => {
    if (!state.right.delete(result.id)) state.right.set(result.id, result)
    search()
  })
  const like = make('button', { className: 'by', type: 'button', textContent: 'similar' })
  like.addEventListener('click', () => searchBy(result))
  const open = make('button', { className: 'picture', type: 'button' }, image)
  open.setAttribute('aria-label', `look at result ${rank}`)
  open.addEventListener('click', () => look(rank - 1))
  return make('li', { className: isRight ? 'right' : '' },
    open,
    make('span', { className: 'rank', textContent: rank }),
    make('div', { className: 'text' },
      make('div', { className: 'score' }, make('b', { textContent: result.score.toFixed(3) })),
      make('div', { className: 'bar' }, bar),
      make('div', { className: 'name', textContent: who + short(result.path) + time + gone }),
      make('div', { className: 'marks' }, mark, like)))
}

function setPicture(source, { like = null, picture = null } = {}) {
  Object.assign(state, { like, picture })
  find('like').hidden = !source
  if (source) find('like').querySelector('img').src = source
}

function searchBy(result) {
  setPicture(picture(result.id, 'small'), { like: result.id })
  state.right.clear()
  // The old words would still pull; new ones can be added.
  find('text').value = ''
  find('closer').close()
  scrollTo({ top: 0, behavior: 'smooth' })
  search(FIRST)
}

async function searchByFile(file) {
  if (!file) return
  try {
    const address = await base64(file)
    setPicture(address, { picture: address.slice(address.indexOf(',') + 1) })
    state.right.clear()
    search(FIRST)
  } catch {
    say(`"${file.name}" is not a picture that this browser can read.`, true)
  }
}

async function base64(file) {
  if (file.size * 4 / 3 > LIMIT) file = await smaller(file)
  return new Promise((resolve, reject) => {
    const reader = new FileReader()
    reader.addEventListener('load', () => resolve(reader.result))
    reader.addEventListener('error', reject)
    reader.readAsDataURL(file)
  })
}

async function smaller(file) {
  const bitmap = await createImageBitmap(file)
  const factor = Math.min(1, LARGEST / Math.max(bitmap.width, bitmap.height))
  const canvas = make('canvas', { width: bitmap.width * factor, height: bitmap.height * factor })
  canvas.getContext('2d').drawImage(bitmap, 0, 0, canvas.width, canvas.height)
  return new Promise((resolve) => canvas.toBlob(resolve, 'image/jpeg', 0.92))
}

function look(index) {
  const result = state.results[index]
  state.shown = index
  const number = ++state.opened
  const facts = [['File', result.path.toWellFormed()], ['Score', result.score.toFixed(4)]]
  if (result.identity !== null) facts.push(['Identity', result.identity])
  if (result.place.time !== undefined) {
    facts.push(['Time', `${clock(result.place.time)}, frame ${result.place.frame}`])
  }
  if (result.place.box) facts.push(['Box', result.place.box.join(', ')])
  find('facts').replaceChildren(...facts.flatMap(([name, value]) =>
    [make('dt', { textContent: name }), make('dd', { textContent: value })]))
  find('whole').hidden = !result.place.box
  showWhole(false)
  find('words').replaceChildren()
  if (!find('closer').open) find('closer').showModal()
  const text = find('text').value.trim()
  find('regions').hidden = !(state.words && text)
  if (state.words && text) regions(result, text, number)
}

function showWhole(isWhole) {
  const result = state.results[state.shown]
  find('whole').setAttribute('aria-pressed', isWhole)
  const what = result.place.frame === undefined ? 'photo' : 'frame'
  find('whole').textContent = isWhole ? 'Show the person alone' : `Show the whole ${what}`
  find('stage').classList.toggle('whole', isWhole)
  find('large').src = isWhole ? `whole/${result.id}` : picture(result.id, 'large')
  find('large').alt = isWhole ? `the ${what} that the person is in` : 'the person'
  for (const chip of find('words').children) chip.setAttribute('aria-pressed', false)
  drawMap(null)
}

async function regions(result, text, number) {
  find('hint').textContent = 'Looking where each word comes from…'
  try {
    const { words } = await ask('api/words', { id: result.id, text })
    if (number !== state.opened) return
    find('hint').textContent = 'What each word adds to the score. Choose one to see from where.'
    find('words').replaceChildren(...words.map((word) => {
      const effect = `${word.effect < 0 ? '−' : '+'}${Math.abs(word.effect).toFixed(3)}`
      const chip = make('button', { type: 'button' }, `${word.word} `, make('small', { textContent: effect }))
      chip.setAttribute('aria-pressed', false)
      chip.addEventListener('click', () => {
        const chosen = chip.getAttribute('aria-pressed') === 'false'
        if (find('stage').classList.contains('whole')) showWhole(false)
        for (const other of find('words').children) other.setAttribute('aria-pressed', other === chip && chosen)
        drawMap(chosen ? word.map : null)
      })
      return chip
    }))
  } catch (error) {
    if (number === state.opened) find('hint').textContent = error.message
  }
}

function drawMap(map) {
  const canvas = find('map')
  canvas.hidden = !map
  if (!map) return
  canvas.height = map.length
  canvas.width = map[0].length
  const pen = canvas.getContext('2d')
  const pixels = pen.createImageData(canvas.width, canvas.height)
  const largest = Math.max(...map.flat(), 1e-6)
  map.flat().forEach((value, place) => {
    const share = Math.max(0, value / largest)
    // What the word does not speak to goes grey: that shows on clothes of any colour.
    pixels.data.set([178, 182, 188, 230 * (1 - share)], 4 * place)
  })
  pen.putImageData(pixels, 0, 0)
}

find('form').addEventListener('submit', (event) => {
  event.preventDefault()
  state.right.clear()
  search(FIRST)
  if (!find('text').value.trim() && !state.like && !state.picture) {
    say('Describe a person, or add a picture of one.', true)
    find('text').focus()
  }
})
for (const id of ['within', 'from', 'to']) find(id).addEventListener('change', () => search())
find('like').querySelector('button').addEventListener('click', () => {
  setPicture(null)
  search()
})
find('file').addEventListener('change', () => {
  searchByFile(find('file').files[0])
  // The same file can be chosen again.
  find('file').value = ''
})
// Text that is dropped is left to the browser.
const holdsFile = (event) => event.dataTransfer.types.includes('Files')
addEventListener('dragover', (event) => { if (holdsFile(event)) event.preventDefault() })
addEventListener('drop', (event) => {
  if (!holdsFile(event)) return
  event.preventDefault()
  searchByFile(event.dataTransfer.files[0])
})
addEventListener('paste', (event) => searchByFile(event.clipboardData.files[0]))
addEventListener('keydown', (event) => {
  const isOpen = find('closer').open
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key]
  if (isOpen && step && state.results[state.shown + step]) look(state.shown + step)
  // As on many pages with a search.
  if (event.key === '/' && !isOpen && !/INPUT|SELECT/.test(document.activeElement.tagName)) {
    event.preventDefault()
    find('text').select()
  }
})
find('more').addEventListener('click', () => search(Math.min(MOST, 4 * state.k)))
find('whole').addEventListener('click', () => showWhole(!find('stage').classList.contains('whole')))
find('forget').addEventListener('click', () => { state.right.clear(); search() })
find('search-by').addEventListener('click', () => searchBy(state.results[state.shown]))
find('close').addEventListener('click', () => find('closer').close())

function tell({ persons }) {
  find('gallery').textContent = `${persons.toLocaleString('en')} persons · model ${state.model}`
}

async function start() {
  try {
    const gallery = await ask('api/gallery')
    state.root = gallery.root
    state.words = gallery.words
    state.model = gallery.model
    tell(gallery)
    find('within').append(...gallery.folders.map((folder) =>
      make('option', { value: folder, textContent: short(folder) })))
    find('times').hidden = !gallery.videos
  } catch (error) {
    say(error.message, true)
  }
  // A search can be kept as a link: ?q=a+man+in+a+black+jacket
  find('text').value = new URLSearchParams(location.search).get('q') ?? ''
  search()
  // An index may be growing meanwhile.
  setInterval(() => { if (!document.hidden) ask('api/count').then(tell, () => {}) }, 10000)
}
start()
