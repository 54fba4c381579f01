"""The networks that the papers define: questions about pictures, captions, counts. Plain modules with stated shapes."""
