"""The app: a page on which pictures are captioned, looked into, put right and remembered. One door: app_gradio.py."""
