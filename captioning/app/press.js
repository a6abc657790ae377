// A button within the element sends its event and value.
element.addEventListener('click', event => {
  const button = event.target.closest('button[data-event]');
  if (button) trigger(button.dataset.event, {value: button.dataset.value});
});
