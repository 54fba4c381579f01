"""The networks that the papers define: questions about images, captions, counts. Plain modules with stated shapes."""
